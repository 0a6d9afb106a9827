"""Cut a turned, scaled piece out of a picture: quickly, without aliasing, at a cost that depends on the piece alone."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from core.shrink import halve
from core.types import U8, Image


def cut(image: Image, matrix: NDArray[np.float64], side: int) -> U8:
    """Warp a square piece; what shrinks by more than two is cut out and halved first.

    Args:
        image: (H, W, 3) uint8 RGB.
        matrix: (2, 3) float64, a similarity from source to piece pixels, pixel centres at integers.
        side: of the piece, px.

    Returns:
        (side, side, 3) uint8 RGB, bilinear; black where the piece sticks out of the picture.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if 0 < scale < 0.5:
        image, matrix = _cut_out(image, matrix, side, scale)
        while scale < 0.5 and min(image.shape[:2]) >= 2:
            image, scale = halve(image), scale * 2
            # piece = A (2 x' + 1/2) + b, for pixel centres at integers
            matrix = np.column_stack([matrix[:, :2] * 2, matrix[:, 2] + matrix[:, :2].sum(axis=1) / 2])
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore[return-value]


def _cut_out(image: Image, matrix: NDArray[np.float64], side: int, scale: float) -> tuple[Image, NDArray[np.float64]]:
    """Return the part of the picture that the piece shows, and the matrix from that part to the piece."""
    (a, _, shift_x), (b, _, shift_y) = matrix.tolist()
    reach = (abs(a) + abs(b)) / scale**2 * side / 2 + 2 / scale  # half the turned piece, and what bilinear sampling after halving reaches
    dx, dy = side / 2 - shift_x, side / 2 - shift_y
    centre_x, centre_y = (a * dx + b * dy) / scale**2, (a * dy - b * dx) / scale**2
    height, width = image.shape[:2]
    x1 = min(max(math.floor(centre_x - reach), 0), width - 1)
    y1 = min(max(math.floor(centre_y - reach), 0), height - 1)
    x2 = min(max(math.ceil(centre_x + reach), x1 + 1), width)
    y2 = min(max(math.ceil(centre_y + reach), y1 + 1), height)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.array([x1, y1], np.float64)
    return image[y1:y2, x1:x2], moved
