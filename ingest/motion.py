"""What moves in a picture: the luma of one frame against several earlier ones. Pure: no I/O, no clock, no threads.

Three distances in time are compared, on the grid of ``ingest.grid``:

- the previous frame: did the whole picture change at once (a cut, a light switch)?
- the frame 0.5 s earlier: does something move, even slowly? The previous frame alone loses people who stand.
- a background that follows the scene within seconds: is anything there at all? It tells a person from the place that
  a person just left, and keeps whoever holds quite still for a few seconds.

Thresholds follow the camera's noise, a running quantile of the block differences. Brightness that drifts everywhere
(exposure, clouds) is fitted by a gain and an offset and taken out before comparing. Constants are measured on rendered
and real footage with ``sightline bench ingest --clip``; docs/ingest.md has the table.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from core.types import F32, U8
from ingest.grid import BLOCK_CELLS, Box, Grid
from ingest.light import NO_CHANGE, GlobalWatch, fit_light
from ingest.zones import Polygon

LAG_S = 0.5  # measured against 0.1 and 2 s: a swaying person shows, exposure drift does not yet
LAG_STEP_S = 0.08  # the ring keeps a frame this often: about 7 small frames at any frame rate
MOTION_FLOOR = 6.0  # luma levels; the pulse of key frames in H.264 reaches 5 on a clean camera
NOISE_FACTOR = 1.8  # the largest of 2300 block means of Gaussian noise is 1.7 times their mean
STRONG = 2.0  # times the threshold: a single block is enough; weaker ones need a neighbour
NOISE_QUANTILE = 0.75  # movers may fill a quarter of the picture without counting as noise
NOISE_RISE_S, NOISE_FALL_S = 4.0, 1.0  # rises slowly, so that passing people do not count
NOISE_LIMIT = 20.0  # luma levels; above this nothing could be told from noise anyway
DRIFT_LEVELS = 2.0  # a median this far above the noise is light, not things: fit it and look again
PRESENCE_FLOOR = 7.0  # the background is older, so shadows and exposure leave more behind
PRESENCE_STAYS = 0.6  # hysteresis: a place stays occupied down to this share of the threshold
PRESENCE_BLOCKS = 4  # about 64x64 pixels at 1080p; the face of a smaller figure could not be told anyway
PRESENCE_S = 6.0  # people who stand shift their weight at least this often; a moved chair stops counting after it
BACKGROUND_STEP_S = 0.2  # the background is slow: following it five times a second is enough
BACKGROUND_TAU_S = 8.0  # how fast free places follow the light of the day
MAX_BOXES = 16
NEIGHBOURS: U8 = np.ones((3, 3), np.uint8)

Blocks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """What one frame shows."""

    moving: bool = False
    """Something moves, or is new."""
    present: bool = False
    """Something that moved within PRESENCE_S still stands out from the background."""
    light: bool = False
    """Brightness changed everywhere at once, the structure stayed."""
    scene_cut: bool = False
    """Another picture altogether; also the first frame of a size."""
    blocks: Blocks
    """Where it moves, on the analyzer's grid."""


class _Threshold:
    """A running noise level and the block difference above which something is not noise."""

    def __init__(self, floor: float, now_s: float) -> None:
        self._floor = floor
        self._level = 1.0
        self._last_s = now_s

    def drifts(self, median: float) -> bool:
        return median > self._level + DRIFT_LEVELS

    def follow(self, levels: tuple[float, float], now_s: float) -> float:
        """Take the (median, quantile) of a frame's differences; return the threshold for it."""
        median, quantile = levels
        dt_s, self._last_s = now_s - self._last_s, now_s
        tau_s = NOISE_RISE_S if quantile > self._level else NOISE_FALL_S
        self._level += (min(quantile, NOISE_LIMIT) - self._level) * (1.0 - math.exp(-dt_s / tau_s))
        return self._floor + NOISE_FACTOR * max(self._level, median)


class MotionAnalyzer:
    """Compares the frames of one camera. Thread rule: one thread; keeps about 1 MB."""

    def __init__(self, zones: Sequence[Polygon] = (), masks: Sequence[Polygon] = ()) -> None:
        self._zones, self._masks = tuple(zones), tuple(masks)
        self._scene: _Scene | None = None

    def look(self, y: U8, now_s: float) -> Motion:
        """Compare a frame with the ones before it.

        Args:
            y: (H, W) uint8 luma, any strides; not kept.
            now_s: capture time; an earlier one than the last starts everything again.

        Returns:
            What moves. The first frame of a size is a scene cut.
        """
        if self._scene is None or y.shape != self._scene.grid.frame_shape or now_s < self._scene.last_s:
            self._scene = _Scene(Grid(*y.shape, zones=self._zones, masks=self._masks), y, now_s)
            return Motion(scene_cut=True, blocks=np.zeros(self._scene.grid.shape, np.bool_))
        return self._scene.look(y, now_s)

    def boxes(self, motion: Motion) -> tuple[Box, ...]:
        """Return where it moves in the last frame: x1, y1, x2, y2 in its pixels, largest first, at most MAX_BOXES."""
        return self._scene.grid.boxes(motion.blocks, MAX_BOXES) if self._scene is not None and motion.moving else ()


class _Scene:
    """What is remembered of a camera's picture at one frame size."""

    def __init__(self, grid: Grid, y: U8, now_s: float) -> None:
        self.grid = grid
        self._motion_threshold, self._presence_threshold = _Threshold(MOTION_FLOOR, now_s), _Threshold(PRESENCE_FLOOR, now_s)
        self.last_s = self._followed_s = now_s
        cells = grid.sample(y)
        blocks = grid.average(cells)
        self._watch = GlobalWatch(blocks)
        self._ring: deque[tuple[float, U8, U8]] = deque()
        self._background: F32 = cells.astype(np.float32)
        self._occupied: Blocks = np.zeros(grid.shape, np.bool_)
        self._near: Blocks = np.zeros(grid.shape, np.bool_)
        self._moved_s: NDArray[np.float64] = np.zeros(grid.shape)
        self._present = False
        self._forget(cells, blocks, now_s)

    def look(self, y: U8, now_s: float) -> Motion:
        """Compare a frame of this size with the ones before it."""
        dt_s, self.last_s = now_s - self.last_s, now_s
        cells = self.grid.sample(y)
        blocks = self.grid.average(cells)
        change = self._watch.compare(blocks, dt_s)
        if change is not NO_CHANGE:
            self._forget(cells, blocks, now_s, light=change.light)
            return Motion(light=change.light is not None, scene_cut=change.scene_cut, present=self._present, blocks=self._occupied)
        active = self._active(cells, blocks, now_s)
        due = now_s - self._followed_s >= BACKGROUND_STEP_S
        if due or (active.any() and not (active & self._near).any()):
            ahead, threshold = self._ahead(cells, blocks, now_s)
            self._near = cv2.dilate((ahead > PRESENCE_STAYS * threshold).astype(np.uint8), NEIGHBOURS).astype(np.bool_)
            if due:
                active |= self._follow(cells, ahead, threshold, active=active & self._near, now_s=now_s)
        active &= self._near  # a place that someone just left differs from before, but not from the background
        self._remember(cells, blocks, now_s)
        return Motion(moving=bool(active.any()), present=self._present, blocks=active)

    def _forget(self, cells: U8, blocks: U8, now_s: float, *, light: tuple[float, float] | None = None) -> None:
        """Start again from this frame: what was before is not comparable, unless a gain and an offset carry it over."""
        self._ring = deque([(now_s, cells, blocks)])
        if light is not None:
            self._background = _relit(self._background, light)
            return
        self._background = cells.astype(np.float32)
        self._followed_s = now_s
        self._occupied = np.zeros_like(self._occupied)
        self._near = np.zeros_like(self._occupied)
        self._moved_s[:] = -math.inf
        self._present = False

    def _remember(self, cells: U8, blocks: U8, now_s: float) -> None:
        if now_s - self._ring[-1][0] >= LAG_STEP_S:
            self._ring.append((now_s, cells, blocks))
        while len(self._ring) > 1 and now_s - self._ring[1][0] >= LAG_S:
            self._ring.popleft()

    def _levels(self, difference: U8, free: Blocks | None) -> tuple[float, float]:
        """Return the median and the NOISE_QUANTILE of the blocks that count and are free."""
        counted = self.grid.counted
        chosen = free if counted is None else counted if free is None else counted & free
        values = difference.ravel() if chosen is None else difference[chosen]
        if not values.size:
            return 0.0, 0.0
        median, quantile = values.size // 2, int(NOISE_QUANTILE * values.size)
        ordered = np.partition(values, (median, quantile))
        return float(ordered[median]), float(ordered[quantile])

    def _active(self, cells: U8, blocks: U8, now_s: float) -> Blocks:
        """Return the blocks that differ from the frame LAG_S earlier."""
        _, earlier, earlier_blocks = self._ring[0]
        difference = self.grid.difference(cells, earlier)
        levels = self._levels(difference, None)
        if self._motion_threshold.drifts(levels[0]):
            gain, offset = fit_light(earlier_blocks.astype(np.float32).ravel(), blocks.astype(np.float32).ravel())
            difference = self.grid.difference(cells, np.asarray(cv2.addWeighted(earlier, gain, earlier, 0.0, offset), np.uint8))
            levels = self._levels(difference, None)
        threshold = self._motion_threshold.follow(levels, now_s)
        return _without_specks(difference, threshold)

    def _ahead(self, cells: U8, blocks: U8, now_s: float) -> tuple[U8, float]:
        """Return how far each block stands out from the background, and the threshold for it."""
        free = ~self._occupied if self._present else None
        background = self._background.astype(np.uint8)
        difference = self.grid.difference(cells, background)
        levels = self._levels(difference, free)
        if self._presence_threshold.drifts(levels[0]):
            gain, offset = fit_light(self.grid.average(background).astype(np.float32).ravel(), blocks.astype(np.float32).ravel())
            self._background = _relit(self._background, (gain, offset))
            difference = self.grid.difference(cells, self._background.astype(np.uint8))
            levels = self._levels(difference, free)
        return difference, self._presence_threshold.follow(levels, now_s)

    def _follow(self, cells: U8, ahead: U8, threshold: float, *, active: Blocks, now_s: float) -> Blocks:
        """Update who is where and the background behind; return the blocks where something is new."""
        dt_s, self._followed_s = now_s - self._followed_s, now_s
        over = _without_specks(ahead, threshold)
        occupied = over | (self._occupied & (ahead > PRESENCE_STAYS * threshold))
        appeared = occupied & ~self._occupied
        self._occupied, self._present, stale = occupied, False, None
        if occupied.any():
            count, parts = cv2.connectedComponents(occupied.astype(np.uint8), connectivity=8)
            alive = np.zeros(count, np.bool_)
            alive[parts[active | appeared]] = True
            self._moved_s[alive[parts] & occupied] = now_s
            stale = occupied & (now_s - self._moved_s >= PRESENCE_S)
            self._occupied = occupied & ~stale
            sizes = np.bincount(parts[over & self._occupied], minlength=count)
            self._present = bool((sizes[1:] >= PRESENCE_BLOCKS).any())
            self._absorb(cells, stale, 1.0)
        self._absorb(cells, ~self._occupied, 1.0 - math.exp(-dt_s / BACKGROUND_TAU_S))
        return appeared

    def _absorb(self, cells: U8, where: Blocks, share: float) -> None:
        """Let the background take over a share of the picture where nobody is, or where nothing moved for too long."""
        if where.all():
            cv2.accumulateWeighted(cells, self._background, share)
        elif where.any():
            mask = np.repeat(np.repeat(where.astype(np.uint8), BLOCK_CELLS, axis=0), BLOCK_CELLS, axis=1)
            cv2.accumulateWeighted(cells, self._background, share, mask=mask)


def _relit(picture: F32, light: tuple[float, float]) -> F32:
    """Return the picture under a light of another gain and offset."""
    return np.asarray(np.clip(picture * np.float32(light[0]) + np.float32(light[1]), 0.0, 255.0), np.float32)


def _without_specks(difference: U8, threshold: float) -> Blocks:
    """Return the blocks above the threshold that are strong or have a neighbour to the side, above or below."""
    over = difference > threshold
    if not over.any():
        return over
    kept = difference > STRONG * threshold
    for here, beside in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        pair = over[here] & over[beside]
        kept[here] |= pair
        kept[beside] |= pair
    return kept
