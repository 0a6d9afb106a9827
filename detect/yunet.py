"""YuNet: what its twelve outputs mean. Pure.

Source: Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023; arithmetic as in
github.com/ShiqiYu/libfacedetection.train (Apache-2.0).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.types import F32, Faces

STRIDES_PX = (8, 16, 32)
THRESHOLD = 0.6
NMS_IOU = 0.3
WIDTHS = (1, 1, 1, 1, 1, 1, 4, 4, 4, 10, 10, 10)
"""Values per cell: class, objectness, box, points, each for the three strides."""


def check_outputs(outputs: Sequence[NDArray[Any]]) -> str | None:
    """Return what is wrong with a graph's outputs for a batch, or None."""
    widths = tuple(output.shape[-1] if output.ndim == 3 else -1 for output in outputs)
    return None if widths == WIDTHS else f"expected 12 outputs of {WIDTHS} values per cell, got {[output.shape for output in outputs]}"


def decode(outputs: Sequence[NDArray[Any]], index: int, threshold: float, canvas_px: tuple[int, int]) -> Faces:
    """Turn the outputs for one picture into faces, before suppression. Only cells above the threshold are looked at.

    Args:
        outputs: cls, obj, bbox, kps, each at strides 8, 16, 32: (B, cells, 1 | 1 | 4 | 10) float32.
        index: Picture in the batch.
        threshold: Least score, 0..1.
        canvas_px: Height and width of the input.

    Returns:
        Faces in input pixels.
    """
    boxes: list[F32] = []
    landmarks: list[F32] = []
    scores: list[F32] = []
    for level, stride in enumerate(STRIDES_PX):
        cls, obj, box, points = (outputs[level + 3 * kind][index] for kind in range(4))
        score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
        cells = np.flatnonzero(score > threshold)
        rows, columns = np.divmod(cells, canvas_px[1] // stride)
        origin = np.stack([columns, rows], axis=1)
        centre = (origin + box[cells, :2]) * stride
        half = np.exp(box[cells, 2:]) * (stride / 2)
        boxes.append(np.concatenate([centre - half, centre + half], axis=1).astype(np.float32))
        landmarks.append(((points[cells].reshape(-1, 5, 2) + origin[:, None]) * stride).astype(np.float32))
        scores.append(score[cells].astype(np.float32))
    return Faces(boxes=np.concatenate(boxes), landmarks=np.concatenate(landmarks), scores=np.concatenate(scores))
