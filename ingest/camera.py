"""One camera on the event loop: starts its thread, publishes what the thread hands over, and stops it."""

import asyncio
import contextlib
import threading
import uuid
from concurrent.futures import Future
from dataclasses import dataclass

import msgspec
import structlog

from core.errors import UnavailableError
from core.ports import Log
from core.schema import encode
from ingest.capture import CameraConfig, Capture, CaptureContext, State
from ingest.outbox import GatedFrame, Outbox
from ingest.urls import redact

OUTBOX_FRAMES = 2  # with the log's own room, 0.6 s of hiccup at 10 fps; under overload an old frame is worth less than a fresh one
STOP_S = 2.0  # how long a stopping camera may take to publish what it holds; a read that blocks is left behind
RETRY_S = 0.5  # between attempts to publish while the log is away

log = structlog.get_logger("ingest")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStatus:
    """What a camera does right now, for the API and the CLI."""

    camera: str
    region: str
    url: str
    """Redacted."""
    state: State
    """connecting, live, retrying, ended (a recording is over), stopped."""
    reason: str
    """Why it is not live; one line."""
    since_s: float
    """Unix time of the last change of state."""
    width_px: int
    height_px: int
    fps: float
    """Measured over the last seconds; 0 while not live."""
    decoded: int
    published: int
    dropped: int
    damaged: int
    reconnects: int


class CameraWorker:
    """Runs one camera. Thread rule: event loop."""

    def __init__(self, config: CameraConfig, context: CaptureContext, log_port: Log) -> None:
        self.config, self._context, self._log = config, context, log_port
        self._outbox = Outbox(OUTBOX_FRAMES)
        self._capture = Capture(config, context, session=uuid.uuid4().hex[:12], hand_over=self._outbox.hand_over)
        self._unacknowledged: GatedFrame | None = None

    def status(self) -> CameraStatus:
        """Return what the camera does right now."""
        p = self._capture.progress
        return CameraStatus(
            camera=self.config.name,
            region=self.config.region,
            url=redact(self.config.url),
            state=p.state,
            reason=p.reason,
            since_s=p.since_s,
            width_px=p.width_px,
            height_px=p.height_px,
            fps=round(p.fps, 2),
            decoded=p.decoded,
            published=p.published,
            dropped=p.dropped,
            damaged=p.damaged,
            reconnects=p.reconnects,
        )

    async def run(self) -> None:
        """Read the camera and publish its frames until cancelled; return when a recording has ended.

        Raises:
            Exception: whatever killed the thread: a fault of ours, which ends the process.
        """
        stop, done = threading.Event(), Future[None]()
        self._outbox.open()
        threading.Thread(target=self._thread, args=(stop, done), name=f"camera-{self.config.name}", daemon=True).start()
        try:
            await self._publish_all()
            done.result()
        except asyncio.CancelledError:
            stop.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._publish_all()
            raise
        finally:
            stop.set()
            self._give_up_rest()

    def _thread(self, stop: threading.Event, done: "Future[None]") -> None:
        try:
            self._capture.run(stop)
        except BaseException as err:  # noqa: BLE001 - the thread's boundary: run() raises it again on the loop
            done.set_exception(err)
        else:
            done.set_result(None)
        finally:
            self._outbox.close()

    async def _publish_all(self) -> None:
        """Publish until the outbox is closed and empty; a frame whose publication was cancelled goes first."""
        while True:
            if self._unacknowledged is None:
                self._unacknowledged = await self._outbox.take()
            if self._unacknowledged is None:
                return
            await self._publish(self._unacknowledged)
            self._unacknowledged = None

    async def _publish(self, frame: GatedFrame) -> None:
        """Publish one frame, for as long as it takes: newer ones wait in the outbox, and are dropped there."""
        while True:
            header = msgspec.structs.replace(frame.header, published_s=self._context.clock.now_s())
            try:
                await self._log.publish(f"frames.{self.config.region}", self.config.name, encode(header, frame.jpeg))
            except UnavailableError as err:
                log.warning("frames wait: the log is away", camera=self.config.name, error=str(err))
                await asyncio.sleep(RETRY_S)
            else:
                self._context.metrics.frames_published.labels(self.config.name, self.config.region).inc()
                self._capture.progress.published += 1
                return

    def _give_up_rest(self) -> None:
        rest = self._outbox.clear() + (self._unacknowledged is not None)
        self._unacknowledged = None
        if rest:
            self._context.metrics.frames_dropped.labels(self.config.name, self.config.region).inc(rest)
            self._capture.progress.dropped += rest
        self._context.metrics.camera_up.labels(self.config.name, self.config.region).set(0.0)
