"""Non-maximum suppression: of boxes that overlap, the best stays. Pure."""

import numpy as np
from numpy.typing import NDArray

from core.types import F32


def suppress(boxes: F32, scores: F32, *, iou: float) -> NDArray[np.intp]:
    """Return the indices of the boxes that stay, best score first; of equal scores the earlier one.

    Args:
        boxes: (N, 4) float32 x1, y1, x2, y2.
        scores: (N,) float32.
        iou: A box goes when it overlaps a better one by more than this (intersection over union, 0..1).

    Source: greedy suppression as in Felzenszwalb et al., "Object Detection with Discriminatively Trained Part-Based Models", 2010.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) < 2:
        return order
    x1, y1, x2, y2 = boxes[order].T
    area = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    alive = np.ones(len(order), np.bool_)
    keep: list[int] = []
    for best in range(len(order)):
        if not alive[best]:
            continue
        keep.append(best)
        rest = slice(best + 1, None)
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        alive[rest] &= overlap <= iou * (area[best] + area[rest] - overlap)
    return order[keep]
