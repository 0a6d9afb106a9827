"""SCRFD: what its nine outputs mean. Pure.

Source: Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", 2021; arithmetic and output layout as in
github.com/deepinsight/insightface (code MIT; its model packs are for non-commercial use).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.types import F32, Faces

STRIDES_PX = (8, 16, 32)
ANCHORS = 2
"""Anchors per cell, at the same place."""
THRESHOLD = 0.5
NMS_IOU = 0.4
WIDTHS = (1, 1, 1, 4, 4, 4, 10, 10, 10)
"""Values per anchor: score, box, points, each for the three strides."""


def check_outputs(outputs: Sequence[NDArray[Any]]) -> str | None:
    """Return what is wrong with a graph's outputs for a batch, or None."""
    widths = tuple(output.shape[-1] if output.ndim in (2, 3) else -1 for output in outputs)
    return None if widths == WIDTHS else f"expected 9 outputs of {WIDTHS} values per anchor, got {[output.shape for output in outputs]}"


def decode(outputs: Sequence[NDArray[Any]], index: int, threshold: float, canvas_px: tuple[int, int]) -> Faces:
    """Turn the outputs for one picture into faces, before suppression. Only anchors above the threshold are looked at.

    Args:
        outputs: scores, distances to the box's sides, points; each at strides 8, 16, 32: (anchors, 1 | 4 | 10) float32 where the
            graph takes one picture, (B, anchors, ...) where it takes batches.
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
        score, sides, points = (of_picture(outputs[level + 3 * kind], index) for kind in range(3))
        anchors = np.flatnonzero(score[:, 0] > threshold)
        rows, columns = np.divmod(anchors // ANCHORS, canvas_px[1] // stride)
        centre = np.stack([columns, rows], axis=1) * np.float32(stride)
        reach = sides[anchors] * stride
        boxes.append(np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], axis=1).astype(np.float32))
        landmarks.append((points[anchors].reshape(-1, 5, 2) * stride + centre[:, None]).astype(np.float32))
        scores.append(score[anchors, 0].astype(np.float32))
    return Faces(boxes=np.concatenate(boxes), landmarks=np.concatenate(landmarks), scores=np.concatenate(scores))


def of_picture(output: NDArray[Any], index: int) -> NDArray[Any]:
    """Return one picture's part of an output: the packs' own graphs have no batch axis, converted ones may."""
    return output[index] if output.ndim == 3 else output
