"""The thread of one camera: connect, decode, stamp, gate, encode, hand over; and try again when the stream ends.

Nothing here knows asyncio; what leaves the thread goes through ``hand_over``.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import structlog

from core.errors import NotFoundError, UnavailableError, UnreadableMediaError
from core.live import LiveTracks
from core.metrics import Metrics
from core.outbound import AddressRefusedError
from core.schema import FrameHeader, GateReason
from ingest.encode import Planes, encode_planes
from ingest.gate import Decision, GateSettings, MotionGate
from ingest.opening import SourceInfo, SourceOptions
from ingest.outbox import GatedFrame
from ingest.pacing import Pacer, backoff_s
from ingest.recordings import FrameSource, TimedFrame, open_frames
from ingest.timestamps import CaptureClock

RATE_WINDOW_S = 2.0  # the shown frame rate is measured over this long

State = Literal["connecting", "live", "retrying", "ended", "stopped"]
log = structlog.get_logger("ingest")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraConfig:
    """Everything about one camera."""

    name: str
    url: str = field(repr=False)
    """With credentials; never logged."""
    region: str = "default"
    loop: bool = False
    """Play a recording again and again."""
    gate: GateSettings = field(default_factory=GateSettings)
    jpeg_quality: int = 90
    source: SourceOptions = field(default_factory=SourceOptions)


class SystemClock:
    """The time of this machine. Tests pass another."""

    def now_s(self) -> float:
        """Return Unix time."""
        return time.time()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait so long, or until stop is set."""
        stop.wait(max(seconds, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureContext:
    """What all cameras of a process share."""

    live: LiveTracks
    metrics: Metrics
    clock: SystemClock = field(default_factory=SystemClock)
    open_frames: Callable[[str, SourceOptions], FrameSource] = open_frames


@dataclass(slots=True)
class Progress:
    """How a camera is doing. Written by its thread (``published`` by its task), read by any."""

    since_s: float
    state: State = "connecting"
    reason: str = ""
    width_px: int = 0
    height_px: int = 0
    fps: float = 0.0
    decoded: int = 0
    damaged: int = 0
    published: int = 0
    dropped: int = 0
    reconnects: int = 0


@dataclass(frozen=True, slots=True)
class _End:
    """Why reading stopped."""

    cause: Literal["eof", "unavailable", "unreadable"]
    reason: str


class Capture:
    """Reads one camera. Thread rule: ``run`` in a thread of its own; ``progress`` may be read anywhere."""

    def __init__(self, config: CameraConfig, context: CaptureContext, *, hand_over: Callable[[GatedFrame], int]) -> None:
        self._config, self._context = config, context
        self._hand_over = hand_over
        self._gate = MotionGate(config.gate)
        self._pacer = Pacer()
        self._rng = np.random.default_rng()
        self._rate_from: tuple[float, int] | None = None
        self.progress = Progress(since_s=context.clock.now_s())
        metrics, labels = context.metrics, (config.name, config.region)
        self._up = metrics.camera_up.labels(*labels)
        self._decoded = metrics.frames_decoded.labels(*labels)
        self._damaged = metrics.frames_damaged.labels(*labels)
        self._dropped = metrics.frames_dropped.labels(*labels)
        self._gated = {reason: metrics.frames_gated.labels(*labels, reason) for reason in ("motion", "hold", "heartbeat", "still", "rate")}

    def run(self, stop: threading.Event) -> None:
        """Read until stop is set, or until a recording has ended."""
        attempt = 0
        while not stop.is_set():
            self._enter("connecting")
            before = self.progress.decoded
            end = self._play(stop)
            if stop.is_set():
                break
            attempt = 0 if self.progress.decoded > before else attempt + 1
            if end is not None:
                self._retry(end, attempt, stop)
            elif not self._config.loop:
                self._enter("ended", "the recording is over")
                return
            self._pacer.restart()
        self._enter("stopped")

    def _retry(self, end: _End, attempt: int, stop: threading.Event) -> None:
        pause_s = backoff_s(attempt, self._rng)
        self._enter("retrying", end.reason)
        self.progress.reconnects += 1
        self._context.metrics.reconnects.labels(self._config.name, self._config.region, end.cause).inc()
        log.warning("camera retries", camera=self._config.name, reason=end.reason, pause_s=round(pause_s, 1))
        self._context.clock.wait(stop, pause_s)

    def _play(self, stop: threading.Event) -> _End | None:
        """Read one connection or one pass; return why it has to be tried again, or None after a whole recording."""
        try:
            with self._context.open_frames(self._config.url, self._config.source) as source:
                self._read(source, stop)
                return _End("eof", f"{source.info.url}: the stream ended") if source.info.live else None
        except (UnavailableError, AddressRefusedError) as err:  # a name may lead elsewhere next time
            return _End("unavailable", str(err))
        except (UnreadableMediaError, NotFoundError) as err:
            return _End("unreadable", str(err))

    def _read(self, source: FrameSource, stop: threading.Event) -> None:
        clock, info = CaptureClock(trusted=source.info.clocked), source.info
        errors = 0
        for timed in source.timed():
            if source.counts.errors > errors:
                self._damaged.inc(source.counts.errors - errors)
                self.progress.damaged += source.counts.errors - errors
                errors = source.counts.errors
            captured_s = self._stamp(clock, timed, info) if info.live else self._due(timed, stop)
            if stop.is_set():
                return
            self._pass(timed, captured_s)

    def _stamp(self, clock: CaptureClock, timed: TimedFrame, info: SourceInfo) -> float:
        stamp = clock.stamp(timed.pts_s, self._context.clock.now_s())
        if stamp.fault is not None:
            self._fault(stamp.fault)
            if clock.lying:
                log.warning("camera's timestamps are not believed any more", camera=self._config.name, fault=stamp.fault, url=info.url)
        return stamp.captured_s

    def _due(self, timed: TimedFrame, stop: threading.Event) -> float:
        late = self._pacer.late
        now_s = self._context.clock.now_s()
        due_s = self._pacer.due_s(timed.pts_s, now_s)
        if self._pacer.late > late:
            self._fault("late")
        self._context.clock.wait(stop, due_s - now_s)
        return due_s

    def _fault(self, fault: str) -> None:
        self._context.metrics.clock_faults.labels(self._config.name, self._config.region, fault).inc()

    def _pass(self, timed: TimedFrame, captured_s: float) -> None:
        """Count one frame, ask the gate, and hand it over if it passes."""
        self._decoded.inc()
        self._note_frame(timed, captured_s)
        planes = timed.frame.planes()
        decision = self._gate.decide(planes.y, captured_s, track_live=self._context.live.held(self._config.name, captured_s))
        self._gated[decision.reason].inc()
        if decision.publish:
            dropped = self._hand_over(self._gated_frame(planes, decision, captured_s))
            if dropped:
                self._dropped.inc(dropped)
                self.progress.dropped += dropped

    def _gated_frame(self, planes: Planes, decision: Decision, captured_s: float) -> GatedFrame:
        height, width = planes.y.shape
        header = FrameHeader(
            frame_id="",
            camera=self._config.name,
            region=self._config.region,
            captured_s=captured_s,
            published_s=0.0,
            width_px=width,
            height_px=height,
            reason=cast(GateReason, decision.reason),  # passed, so neither still nor rate
            motion_boxes=decision.boxes,
            scene_cut=decision.scene_cut,
        )
        return GatedFrame(header, encode_planes(planes, self._config.jpeg_quality))

    def _note_frame(self, timed: TimedFrame, captured_s: float) -> None:
        progress = self.progress
        if progress.state != "live":
            self._enter("live")
            self._rate_from = None
        progress.decoded += 1
        progress.width_px, progress.height_px = timed.frame.width_px, timed.frame.height_px
        if self._rate_from is None:
            self._rate_from = (captured_s, progress.decoded)
        elif captured_s - self._rate_from[0] >= RATE_WINDOW_S:
            progress.fps = (progress.decoded - self._rate_from[1]) / (captured_s - self._rate_from[0])
            self._rate_from = (captured_s, progress.decoded)

    def _enter(self, state: State, reason: str = "") -> None:
        """Change the state; a looping recording stays live between its passes."""
        if state == "connecting" and self.progress.state in ("live", "retrying"):
            return
        self.progress.state, self.progress.reason, self.progress.since_s = state, reason, self._context.clock.now_s()
        self._up.set(1.0 if state == "live" else 0.0)
        if state != "live":
            self.progress.fps = 0.0
