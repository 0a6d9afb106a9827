"""Changes of light and of the whole picture, told apart from things that move. Pure: no I/O, no clock.

Works on block means (see ``ingest.motion``): a few thousand numbers a frame.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from core.types import F32, U8

GLOBAL_LEVELS = 10.0  # luma levels by which a block must differ between two frames to count as changed
GLOBAL_SHARE = 0.6  # of all blocks changed: the whole picture
GLOBAL_RISE = 3.0  # times the camera's usual change: a flickering lamp is not a light switch each frame
USUAL_TAU_S = 2.0
FLAT_LEVELS = 2.0  # spread of a black or covered picture: no structure to compare
# Correlation of block means, measured on five real clips: -0.05 to 0.46 between scenes, 0.02 to 0.23 across the cuts of one
# film; computed changes of light: 0.94 to 1.0 for a gain or a gamma, 0.64 to 0.86 for a lamp at one side (that counts as motion).
CUT_CORRELATION = 0.5  # below: another picture
LIGHT_CORRELATION = 0.85
LIGHT_RESIDUAL = 0.35  # share of the change that a gain and an offset may leave unexplained
SLOPE_LIMITS = (0.2, 5.0)  # a flat picture has no slope; a lamp changes it by less than this


@dataclass(frozen=True, slots=True)
class GlobalChange:
    """What happened to the whole picture between two frames; neither means: nothing, or only things that move."""

    light: tuple[float, float] | None
    """Brightness changed everywhere at once and the structure stayed: gain and offset from the frame before."""
    scene_cut: bool
    """Another picture altogether."""


NO_CHANGE = GlobalChange(None, False)


class GlobalWatch:
    """Judges pairs of successive frames that look different everywhere. Thread rule: one thread."""

    def __init__(self) -> None:
        self._usual = 0.0
        self._last_s = float("-inf")

    def compare(self, before: U8, after: U8, now_s: float) -> GlobalChange:
        """Compare the (rows, columns) uint8 block means of two successive frames.

        Need only be asked when most of the picture changed; a change that comes again and again (a flickering lamp)
        becomes usual, and is then no event.
        """
        change = cv2.absdiff(before, after)
        middle = float(cv2.mean(change)[0])
        usual = self._usual * math.exp(-max(now_s - self._last_s, 0.0) / USUAL_TAU_S)
        self._usual, self._last_s = max(usual, usual + 0.2 * (middle - usual)), now_s
        if middle < GLOBAL_SHARE * GLOBAL_LEVELS or middle < GLOBAL_RISE * usual:
            return NO_CHANGE
        if np.count_nonzero(change > GLOBAL_LEVELS) < GLOBAL_SHARE * change.size:
            return NO_CHANGE
        return _judge(before.astype(np.float32).ravel(), after.astype(np.float32).ravel(), float(np.mean(change)))


def _judge(before: F32, after: F32, change: float) -> GlobalChange:
    gain, offset = fit_light(before, after)
    if min(float(before.std()), float(after.std())) < FLAT_LEVELS:
        return GlobalChange(None, True)
    correlation = float(np.corrcoef(before, after)[0, 1])
    left = float(np.abs(after - np.clip(gain * before + offset, 0.0, 255.0)).mean())
    if correlation > LIGHT_CORRELATION and left < LIGHT_RESIDUAL * change:
        return GlobalChange((gain, offset), False)
    return GlobalChange(None, True) if correlation < CUT_CORRELATION else NO_CHANGE


def fit_blocks(before: U8, after: U8) -> tuple[float, float]:
    """Fit ``after = gain * before + offset`` to two pictures' block means."""
    return fit_light(before.astype(np.float32).ravel(), after.astype(np.float32).ravel())


def fit_light(before: F32, after: F32) -> tuple[float, float]:
    """Fit ``after = gain * before + offset`` to two (N,) arrays of block means.

    Fitted twice, the second time over the half that fits best, so that whatever moved falls out.
    """
    gain, offset = _line(before, after)
    error = np.abs(after - (gain * before + offset))
    best = error <= np.partition(error, len(error) // 2)[len(error) // 2]
    return _line(before[best], after[best])


def _line(x: F32, y: F32) -> tuple[float, float]:
    count = float(len(x))
    mean_x, mean_y = float(x.sum()) / count, float(y.sum()) / count
    spread = float(x @ x) / count - mean_x * mean_x
    slope = (float(x @ y) / count - mean_x * mean_y) / spread if spread > FLAT_LEVELS**2 else 1.0
    slope = min(max(slope, SLOPE_LIMITS[0]), SLOPE_LIMITS[1])
    return slope, mean_y - slope * mean_x
