"""The motion gate: which frames of a camera are worth looking at, and why. Pure: no I/O, no clock, no threads.

A frame passes because something moves (``motion``), because it just did or a face track lives (``hold``), or because the
camera has been silent for long (``heartbeat``). It stays because nothing moves (``still``), or because it lies between
the frames that the camera's rate allows (``rate``): such a frame is not even looked at, which costs nothing and loses
nothing, as the next one is a tenth of a second away. Every decision carries its reason.
"""

from dataclasses import dataclass
from typing import Literal

from core.types import U8
from ingest.grid import Box
from ingest.motion import Motion, MotionAnalyzer
from ingest.zones import Polygon

Reason = Literal["motion", "hold", "heartbeat", "still", "rate"]
EMPTY_HOLD = 0.5  # of hold_s: enough for a person who turns around, when the picture is its background again
LIGHT_PAUSE_S = 1.0  # a lamp that fades in is one change of light, not ten


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """How one camera is gated."""

    max_fps: float = 10.0
    """Rate cap of frames that are looked at, and so of passed frames."""
    hold_s: float = 1.0
    """The gate stays open for this long after the last motion; half of it when the picture is its background again."""
    heartbeat_s: float = 10.0
    """A frame passes at least this often."""
    track_fps: float = 2.0
    """Rate at which a live face track holds the gate open."""
    zones: tuple[Polygon, ...] = ()
    """Motion counts only here; empty means everywhere."""
    masks: tuple[Polygon, ...] = ()
    """Motion never counts here."""

    def __post_init__(self) -> None:
        for name, value in (("max_fps", self.max_fps), ("heartbeat_s", self.heartbeat_s), ("track_fps", self.track_fps)):
            if not value > 0:
                raise ValueError(f"GateSettings.{name}: expected more than 0, got {value}")
        if not self.hold_s >= 0:
            raise ValueError(f"GateSettings.hold_s: expected 0 or more, got {self.hold_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate says about one frame."""

    publish: bool
    reason: Reason
    boxes: tuple[Box, ...]
    """Where it moves: x1, y1, x2, y2 in frame pixels, largest first; empty when the frame stays."""
    scene_cut: bool
    """The whole picture is another one."""


STAYS_FOR_RATE = Decision(publish=False, reason="rate", boxes=(), scene_cut=False)


class Cadence:
    """Lets frames through at a given rate, evenly: a phase that advances by whole periods, not a bucket that bursts."""

    def __init__(self, fps: float) -> None:
        self._period_s = 1.0 / fps
        self._due_s: float | None = None

    def ready(self, now_s: float, frame_s: float) -> bool:
        """Return whether a frame may pass now; frame_s is the usual time between frames, half of which is tolerated."""
        return self._due_s is None or now_s >= self._due_s - min(frame_s, self._period_s) / 2

    def take(self, now_s: float) -> None:
        """Note that a frame passed at now_s."""
        if self._due_s is None or now_s - self._due_s >= self._period_s:
            self._due_s = now_s  # silent for a while: start a new phase
        self._due_s += self._period_s


class MotionGate:
    """The gate of one camera. Thread rule: one thread (the camera's)."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._motion = MotionAnalyzer(settings.zones, settings.masks)
        self._cadence = Cadence(settings.max_fps)
        self._moved_s = float("-inf")
        self._published_s = float("-inf")
        self._light_s = float("-inf")
        self._last_s: float | None = None
        self._frame_s = 0.0

    def decide(self, y: U8, now_s: float, *, track_live: bool) -> Decision:
        """Look at one frame and say whether it passes.

        Args:
            y: (H, W) uint8 luma plane, any strides; not kept.
            now_s: capture time, never decreasing.
            track_live: a face track of this camera is alive.

        Returns:
            The decision. The first frame passes, as a scene cut.
        """
        self._follow_rate(now_s)
        if not self._cadence.ready(now_s, self._frame_s):
            return STAYS_FOR_RATE
        self._cadence.take(now_s)
        seen = self._motion.look(y, now_s)
        if seen.moving:
            self._moved_s = now_s
        light = seen.light and now_s - self._light_s >= LIGHT_PAUSE_S
        if seen.light:
            self._light_s = now_s
        reason = self._reason(now_s, moving=seen.moving or seen.scene_cut or light, seen=seen, track_live=track_live)
        publish = reason != "still"
        if publish:
            self._published_s = now_s
        return Decision(publish=publish, reason=reason, boxes=self._motion.boxes(seen) if publish else (), scene_cut=seen.scene_cut)

    def _reason(self, now_s: float, *, moving: bool, seen: Motion, track_live: bool) -> Reason:
        if moving:
            return "motion"
        if seen.present or now_s - self._moved_s < EMPTY_HOLD * self._settings.hold_s:
            return "hold"
        since_s = now_s - self._published_s + self._frame_s / 2
        if track_live and since_s >= 1.0 / self._settings.track_fps:
            return "hold"
        return "heartbeat" if since_s >= self._settings.heartbeat_s else "still"

    def _follow_rate(self, now_s: float) -> None:
        """Keep a running mean of the time between frames."""
        if self._last_s is not None and now_s < self._last_s:  # this machine's clock was set back: start counting again
            self._cadence = Cadence(self._settings.max_fps)
            self._moved_s = self._published_s = self._light_s = float("-inf")
        elif self._last_s is not None and 0.0 < now_s - self._last_s < 1.0:
            self._frame_s += (now_s - self._last_s - self._frame_s) * (0.1 if self._frame_s else 1.0)
        self._last_s = now_s
