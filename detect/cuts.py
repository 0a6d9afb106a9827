"""Scene cuts: the picture changed as a whole, so no face of the old one goes on. Pure; no clock."""

import numpy as np

from core.types import F32, Image

GRID = 32  # samples a side: enough to tell pictures apart, 1 KB to compare
CHANGED = 12.0  # grey difference (0..255) of a sample that shows something else now; sensor noise stays below
MIN_CHANGED_SHARE = 0.4  # of the samples; somebody who walks by close to the camera changes less than a third
MAX_CORRELATION = 0.75  # a light switch changes the grey values but keeps the picture: correlation stays above 0.9


class CutDetector:
    """Compares each frame with the one before on a coarse grid. Thread rule: one task."""

    def __init__(self) -> None:
        self._before: F32 | None = None

    def update(self, image: Image) -> bool:
        """Return whether this frame ((H, W, 3) uint8 RGB) begins a new scene."""
        grid = coarse_grey(image)
        before, self._before = self._before, grid
        if before is None or before.shape != grid.shape:
            return False
        if float((np.abs(grid - before) > CHANGED).mean()) < MIN_CHANGED_SHARE:
            return False
        return correlation(grid, before) < MAX_CORRELATION


def coarse_grey(image: Image) -> F32:
    """Return a (about GRID, GRID) float32 sample of the green channel: no conversion, no resize, a strided view."""
    height, width = image.shape[:2]
    view = image[:: max(1, height // GRID), :: max(1, width // GRID), 1]
    return view.astype(np.float32)


def correlation(a: F32, b: F32) -> float:
    """Return the Pearson correlation of two equal-shaped arrays, 0 when one of them is flat."""
    a0, b0 = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a0 * a0).sum() * (b0 * b0).sum()))
    return float((a0 * b0).sum()) / scale if scale > 1e-6 else 0.0
