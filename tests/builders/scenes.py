"""Rooms for the gate: a textured, noisy, static picture in which figures move, and lamps switch."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from core.types import U8

WIDTH, HEIGHT = 640, 360


def texture(seed: int = 0, *, width: int = WIDTH, height: int = HEIGHT) -> U8:
    """(height, width) uint8: soft blobs between 40 and 200, the same for the same seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (9, 16), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@dataclass
class Room:
    """A camera's view that is drawn frame by frame."""

    background: U8 = field(default_factory=texture)
    noise: float = 2.0
    """Standard deviation of the sensor noise in levels."""
    seed: int = 1

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        rows, columns = self.background.shape
        self._grain = np.rint(self._rng.normal(0.0, self.noise, (2 * rows, 2 * columns))).astype(np.int16)

    def frame(self, figures: tuple[tuple[float, float, float, float], ...] = (), *, contrast: int = 60, gain: float = 1.0) -> U8:
        """Return a frame with figures (x, y, width, height in pixels) that differ from what is behind them by contrast."""
        picture = self.background.astype(np.int16)
        for x, y, width, height in figures:
            left, top = max(int(x), 0), max(int(y), 0)
            patch = picture[top : max(int(y + height), 0), left : max(int(x + width), 0)]
            patch += np.where(patch < 128, contrast, -contrast).astype(np.int16)
        if gain != 1.0:
            picture = (picture * gain).astype(np.int16)
        rows, columns = self.background.shape
        left, top = self._rng.integers(0, columns), self._rng.integers(0, rows)
        return np.clip(picture + self._grain[top : top + rows, left : left + columns], 0, 255).astype(np.uint8)
