"""Faces made unrecognizable, for good: what is left of a face are a few means of colour. Pure; any thread."""

from typing import Final, Literal

import cv2
import numpy as np

from core.types import F32, Image

CELLS: Final = 6
"""A blurred face has this many means of colour across and down: nothing that tells two people apart, and nothing to undo."""
GROWN: Final = 0.35
"""A box is grown by this share on each side before it is blurred: hair, ears and chin, and what the detector placed loosely."""
WHOLE_CELLS: Final = 12
"""Across the longer side of a picture that is blurred as a whole."""
OWN_SHARE: Final = 0.3
"""A picture's own face lies this near to its middle, as a share of its size; one further out is a bystander's."""

Own = Literal["middle", "nobody"]
"""Whose face may be seen: the one in the middle, for pictures that were cut around it; or nobody's."""


def bystanders(boxes: F32, own: Own | tuple[float, float, float, float], width_px: int, height_px: int) -> list[int]:
    """Return which faces of a picture are bystanders'.

    Args:
        boxes: (n, 4) float32, all faces found, pixels of the picture.
        own: whose face may be seen; or where it is.
        width_px: of the picture.
        height_px: of the picture.
    """
    if own == "nobody" or not len(boxes):
        return list(range(len(boxes)))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    if isinstance(own, str):
        away = np.abs(centres - np.array([width_px / 2, height_px / 2])) / np.array([width_px, height_px])
    else:
        size = np.maximum(np.array([own[2] - own[0], own[3] - own[1]]), 1.0)
        away = np.abs(centres - np.array([own[0] + own[2], own[1] + own[3]]) / 2) / size
    far = away.max(axis=1)
    mine = int(far.argmin())
    return [index for index in range(len(boxes)) if index != mine or far[mine] > OWN_SHARE]


def blur_faces(image: Image, boxes: F32) -> Image:
    """Return a copy of a picture ((H, W, 3) uint8 RGB) with these faces (n, 4) made unrecognizable."""
    out = image.copy()
    height, width = image.shape[:2]
    for box in boxes:
        grow = GROWN * (box[2:] - box[:2])
        x1, y1 = np.clip(np.floor(box[:2] - grow), 0, (width, height)).astype(int)
        x2, y2 = np.clip(np.ceil(box[2:] + grow), 0, (width, height)).astype(int)
        if x2 > x1 and y2 > y1:
            out[y1:y2, x1:x2] = _washed(out[y1:y2, x1:x2], CELLS, CELLS)
    return out


def blur_whole(image: Image) -> Image:
    """Return a picture of which only broad colours are left."""
    height, width = image.shape[:2]
    longer = max(height, width)
    return _washed(image, max(1, round(WHOLE_CELLS * width / longer)), max(1, round(WHOLE_CELLS * height / longer)))


def _washed(view: Image, columns: int, rows: int) -> Image:
    """Return a view as means of colour, smoothed: pixelated first, for a blur alone can be sharpened again."""
    height, width = view.shape[:2]
    small = cv2.resize(np.ascontiguousarray(view), (min(columns, width), min(rows, height)), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.GaussianBlur(large, (0, 0), max(width / columns, height / rows) / 2), np.uint8)
