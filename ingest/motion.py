"""What moves in a picture: the luma of one frame against several earlier ones. Pure: no I/O, no clock, no threads.

Three distances in time are compared, on the grid of ``ingest.grid``:

- the frame 0.5 s earlier: does something move, even slowly? The previous frame alone loses people who stand.
- the previous frame, when most of the picture differs: did it change at once (a cut, a light switch)?
- a background that follows the scene within seconds: is anything there at all? It tells a person from the place that
  a person just left, and keeps whoever holds quite still for a few seconds.

Thresholds follow the camera's noise. Brightness that drifts everywhere (exposure, clouds) is fitted by a gain and an
offset and taken out before comparing. Constants were chosen on one labelled indoor clip and altered copies of it (``sightline
bench ingest --clip``); docs/ingest.md has the table, and says what was not measured.

The common path, a picture in which nothing happens, is kept to a handful of calls:
between two frames the decoder has emptied the caches, and every call costs several times what it costs in a loop.
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
from ingest.light import NO_CHANGE, GlobalWatch, fit_blocks
from ingest.zones import Polygon

LAG_S = 0.5  # compared with 0.1 and 2 s on that clip: a swaying person shows, exposure drift does not yet
LAG_STEP_S = 0.08  # the ring keeps a frame this often: about 7 small frames at any frame rate
MOTION_FLOOR = 6.0  # luma levels; the pulse of key frames in H.264 reaches 5 on a clean camera
NOISE_FACTOR = 1.8  # the largest of 1600 block means of Gaussian noise is 1.9 times their mean (2.5 at worst of 120); the floor adds
STRONG = 2.0  # times the threshold: a single block is enough; weaker ones need a neighbour
NOISE_RISE_S, NOISE_FALL_S = 4.0, 1.0  # rises slowly, so that passing people do not count
NOISE_FIRST = 6.0  # luma levels that the first comparison may claim as noise: somebody may be walking in it
NOISE_LIMIT = 20.0  # luma levels; above this nothing could be told from noise anyway
DRIFT_LEVELS = 2.0  # a mean difference this far above the noise may be light, not things ...
DRIFT_SHIFT = 1.0  # ... if the picture's brightness moved by this much too: fit it and look again
GLOBAL_LEVEL = 6.0  # a mean difference above which the whole picture may have changed
PRESENCE_FLOOR = 7.0  # the background is older, so shadows and exposure leave more behind
PRESENCE_STAYS = 0.6  # hysteresis: a place stays occupied down to this share of the threshold
PRESENCE_BLOCKS = 3  # about 70x70 pixels at 1080p; the face of a smaller figure could not be told anyway
PRESENCE_S = 6.0  # a choice: longer keeps people who stand quite still, and a moved chair counts for as long
BACKGROUND_STEP_S = 0.28  # the background is slow: following it every third look (at 10 fps) is enough
ABSORB_STEP_S = 0.9  # and it takes the picture over in steps of about a second
BACKGROUND_TAU_S = 8.0  # how fast free places follow the light of the day
MAX_BOXES = 16

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


class _Level:
    """The running noise of a kind of difference, and the threshold above which a block is not noise.

    The mean is taken over differences clipped at the threshold, so that a mover weighs no more than its share of the picture.
    """

    def __init__(self, floor: float, now_s: float) -> None:
        self._floor, self._last_s = floor, now_s
        self._level: float | None = None
        self.threshold = floor + NOISE_FACTOR * NOISE_LIMIT

    def mean(self, difference: U8, share: float) -> float:
        """Return the clipped mean over the share of the blocks that counts (the others are 0)."""
        plain = float(cv2.mean(difference)[0]) / share
        if self._level is not None and plain <= self._level:
            return plain  # clipping would change little, and calls are what this costs
        clipped = cv2.threshold(difference, self.threshold, 0.0, cv2.THRESH_TRUNC)[1]
        return float(cv2.mean(clipped)[0]) / share

    def drifts(self, mean: float) -> bool:
        """Return whether a mean is so far above the noise that the light may have changed."""
        return self._level is not None and mean > self._level + DRIFT_LEVELS

    def follow(self, mean: float, now_s: float) -> float:
        """Take a frame's clipped mean and return the threshold for that frame."""
        dt_s, self._last_s = now_s - self._last_s, now_s
        level = min(mean, NOISE_FIRST) if self._level is None else self._level
        tau_s = NOISE_RISE_S if mean > level else NOISE_FALL_S
        self._level = level + (min(mean, NOISE_LIMIT) - level) * (1.0 - math.exp(-dt_s / tau_s))
        self.threshold = self._floor + NOISE_FACTOR * max(self._level, mean)
        return self.threshold


class MotionAnalyzer:
    """Compares the frames of one camera. Thread rule: one thread; keeps about 0.5 MB."""

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
            return Motion(scene_cut=True, blocks=self._scene.nowhere)
        return self._scene.look(y, now_s)

    def boxes(self, motion: Motion) -> tuple[Box, ...]:
        """Return where it moves in the last frame: x1, y1, x2, y2 in its pixels, largest first, at most MAX_BOXES."""
        return self._scene.grid.boxes(motion.blocks, MAX_BOXES) if self._scene is not None and motion.moving else ()


class _Scene:
    """What is remembered of a camera's picture at one frame size."""

    def __init__(self, grid: Grid, y: U8, now_s: float) -> None:
        self.grid = grid
        self.nowhere: Blocks = np.zeros(grid.shape, np.bool_)
        self.last_s = now_s
        self._motion, self._presence = _Level(MOTION_FLOOR, now_s), _Level(PRESENCE_FLOOR, now_s)
        self._watch = GlobalWatch()
        self._last = grid.sample(y)
        self._ring: deque[tuple[float, U8]] = deque()
        self._begin(now_s)

    def _begin(self, now_s: float) -> None:
        """Start again from the last frame: what was before is not comparable."""
        self._ring = deque([(now_s, self._last)])
        self._background: F32 = self._last.astype(np.float32)
        self._shown = self._last  # the background as uint8
        self._followed_s = self._absorbed_s = now_s
        self._occupied = self._near = self.nowhere
        self._moved_s: NDArray[np.float64] = np.full(self.grid.shape, -math.inf)
        self._present = False

    def look(self, y: U8, now_s: float) -> Motion:
        """Compare a frame of this size with the ones before it."""
        self.last_s = now_s
        cells = self.grid.sample(y)
        before, self._last = self._last, cells
        difference = self.grid.difference(cells, self._ring[0][1])
        mean = self._motion.mean(difference, self.grid.share)
        if mean > GLOBAL_LEVEL:
            change = self._watch.compare(self.grid.average(before), self.grid.average(cells), now_s)
            if change is not NO_CHANGE:
                return self._start_again(change.light, now_s)
        if self._motion.drifts(mean) and _shifted(cells, self._ring[0][1]):
            difference, mean = self._without_drift(cells, mean, difference)
        active = _without_specks(difference, self._motion.follow(mean, now_s))
        due = now_s - self._followed_s >= BACKGROUND_STEP_S
        if due or (active is not None and not (active & self._near).any()):
            active = self._compare_background(cells, active, now_s, due=due)
        elif active is not None:
            active &= self._near
        self._remember(cells, now_s)
        moving = active is not None and bool(active.any())
        return Motion(moving=moving, present=self._present, blocks=self.nowhere if active is None else active)

    def _start_again(self, light: tuple[float, float] | None, now_s: float) -> Motion:
        """Take over another picture, or the same one under another light."""
        if light is None:
            self._begin(now_s)
        else:
            self._ring = deque([(now_s, self._last)])
            self._relight(light)
        return Motion(light=light is not None, scene_cut=light is None, present=self._present, blocks=self.nowhere)

    def _relight(self, light: tuple[float, float]) -> None:
        relit = self._background * np.float32(light[0]) + np.float32(light[1])
        self._background = np.asarray(np.clip(relit, 0.0, 255.0), np.float32)
        self._shown = self._background.astype(np.uint8)

    def _without_drift(self, cells: U8, mean: float, difference: U8) -> tuple[U8, float]:
        """Compare again with the earlier frame brought to today's light; return the better of the two (difference, mean)."""
        earlier = self._ring[0][1]
        gain, offset = fit_blocks(self.grid.average(earlier), self.grid.average(cells))
        relit = self.grid.difference(cells, np.asarray(cv2.addWeighted(earlier, gain, earlier, 0.0, offset), np.uint8))
        relit_mean = self._motion.mean(relit, self.grid.share)
        return (relit, relit_mean) if relit_mean < mean else (difference, mean)

    def _remember(self, cells: U8, now_s: float) -> None:
        if now_s - self._ring[-1][0] >= LAG_STEP_S:
            self._ring.append((now_s, cells))
        while len(self._ring) > 1 and now_s - self._ring[1][0] >= LAG_S:
            self._ring.popleft()

    def _compare_background(self, cells: U8, active: Blocks | None, now_s: float, *, due: bool) -> Blocks | None:
        """Keep the active blocks only where something stands out; when due, follow the background and add what is new.

        A place that someone just left differs from before, but not from the background.
        """
        ahead = self.grid.difference(cells, self._shown)
        mean = self._presence.mean(ahead, self.grid.share)
        if self._presence.drifts(mean) and _shifted(cells, self._shown):
            self._relight(fit_blocks(self.grid.average(self._shown), self.grid.average(cells)))
            ahead = self.grid.difference(cells, self._shown)
            mean = self._presence.mean(ahead, self.grid.share)
        threshold = self._presence.follow(mean, now_s)
        if active is None and not self._present and cv2.minMaxLoc(ahead)[1] <= PRESENCE_STAYS * threshold:
            self._occupied = self._near = self.nowhere
        else:
            self._near = np.asarray(ahead > PRESENCE_STAYS * threshold)
            active = self.nowhere if active is None else active & self._near
            if due:
                active = active | self._occupy(cells, ahead, threshold, active=active, now_s=now_s)
        if due:
            self._followed_s = now_s
        if now_s - self._absorbed_s >= ABSORB_STEP_S:
            self._absorb(cells, ~self._occupied, 1.0 - math.exp((self._absorbed_s - now_s) / BACKGROUND_TAU_S))
            self._absorbed_s = now_s
        return active

    def _occupy(self, cells: U8, ahead: U8, threshold: float, *, active: Blocks, now_s: float) -> Blocks:
        """Update who is where; return the blocks where something is new."""
        over = _without_specks(ahead, threshold)
        over = self.nowhere if over is None else over
        occupied = over | (self._occupied & (ahead > PRESENCE_STAYS * threshold))
        appeared = occupied & ~self._occupied
        count, parts = cv2.connectedComponents(occupied.astype(np.uint8), connectivity=8)
        alive = np.zeros(count, np.bool_)
        alive[parts[active | appeared]] = True
        self._moved_s[alive[parts] & occupied] = now_s
        stale = occupied & (now_s - self._moved_s >= PRESENCE_S)
        self._occupied = occupied & ~stale
        sizes = np.bincount(parts[over & self._occupied], minlength=count)
        self._present = bool((sizes[1:] >= PRESENCE_BLOCKS).any())
        self._absorb(cells, stale, 1.0)
        return appeared

    def _absorb(self, cells: U8, where: Blocks, share: float) -> None:
        """Let the background take over a share of the picture where nobody is, or where nothing moved for too long."""
        if where.all():
            cv2.accumulateWeighted(cells, self._background, share)
        elif where.any():
            mask = np.repeat(np.repeat(where.view(np.uint8), BLOCK_CELLS, axis=0), BLOCK_CELLS, axis=1)
            cv2.accumulateWeighted(cells, self._background, share, mask=mask)
        else:
            return
        self._shown = self._background.astype(np.uint8)


def _shifted(cells: U8, earlier: U8) -> bool:
    """Return whether the brightness of the whole picture moved: noise does not do that."""
    return abs(float(cv2.mean(cells)[0]) - float(cv2.mean(earlier)[0])) > DRIFT_SHIFT


def _without_specks(difference: U8, threshold: float) -> Blocks | None:
    """Return the blocks above the threshold, or None when there are none but weak ones without a neighbour."""
    largest = cv2.minMaxLoc(difference)[1]
    if largest <= threshold:
        return None
    over = np.asarray(difference > threshold)
    if largest > STRONG * threshold or (over[1:] & over[:-1]).any() or (over[:, 1:] & over[:, :-1]).any():
        return over
    return None
