"""Where a camera looks for motion: zones (only here) and masks (never here), as polygons in fractions of the picture.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Sequence

import cv2
import numpy as np

from core.errors import UsageError
from core.types import U8

Point = tuple[float, float]
"""x, y in 0..1 of the picture's width and height, origin at the top left."""
Polygon = tuple[Point, ...]

MAX_POINTS = 64  # a hand-drawn polygon has a dozen; more is damage
_SEPARATOR = re.compile(r"[\s;]+")


def check_polygon(points: Sequence[Sequence[float]]) -> Polygon:
    """Check a polygon's points.

    Raises:
        UsageError: fewer than 3 or more than MAX_POINTS points, or a coordinate outside 0..1.
    """
    if not 3 <= len(points) <= MAX_POINTS:
        raise UsageError(f"polygon: expected 3 to {MAX_POINTS} points, got {len(points)}")
    for point in points:
        if len(point) != 2 or not all(0.0 <= value <= 1.0 for value in point):
            raise UsageError(f"polygon: expected points x,y within 0..1, got {','.join(f'{value:g}' for value in point)}")
    return tuple((float(x), float(y)) for x, y in points)


def parse_polygon(text: str) -> Polygon:
    """Parse ``x1,y1 x2,y2 x3,y3 ...`` (separated by blanks or semicolons), each within 0..1.

    Raises:
        UsageError: saying what was expected.
    """
    try:
        points = [[float(value) for value in pair.split(",")] for pair in _SEPARATOR.split(text.strip()) if pair]
    except ValueError as err:
        raise UsageError(f"polygon {text!r}: expected numbers as 'x1,y1 x2,y2 x3,y3', each within 0..1") from err
    return check_polygon(points)


def rasterize(zones: Sequence[Polygon], masks: Sequence[Polygon], *, width: int, height: int) -> U8 | None:
    """Draw zones and masks on a grid.

    Args:
        zones: where motion counts; empty means everywhere.
        masks: where motion never counts; they win over zones.
        width: columns of the grid.
        height: rows of the grid.

    Returns:
        (height, width) uint8, 255 where motion counts and 0 elsewhere, or None when it counts everywhere.
    """
    if not zones and not masks:
        return None
    grid: U8 = np.full((height, width), 0 if zones else 255, np.uint8)
    for polygons, value in ((zones, 255), (masks, 0)):
        for polygon in polygons:
            corners = np.rint(np.asarray(polygon) * (width, height) - 0.5).astype(np.int32)
            cv2.fillPoly(grid, [corners], value)
    return grid
