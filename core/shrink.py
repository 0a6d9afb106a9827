"""Shrinking pictures quickly and without aliasing."""

import cv2

from core.types import U8


def halve(image: U8) -> U8:
    """Return the picture at half its size, each pixel the mean of 2 x 2; an odd last row or column is left out.

    OpenCV has a SIMD path for exactly this factor; its INTER_AREA for other factors is three to eight times slower.
    """
    height, width = image.shape[0] & ~1, image.shape[1] & ~1
    return cv2.resize(image[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
