"""One camera on the event loop: starts its thread, numbers what the thread hands over, gives it to the publisher, and stops the thread."""

import asyncio
import contextlib
import threading
import uuid
from concurrent.futures import Future
from dataclasses import dataclass

import msgspec

from ingest.capture import CameraConfig, Capture, CaptureContext, State
from ingest.outbox import GatedFrame, Outbox
from ingest.publish import Publisher
from ingest.urls import redact

STOP_S = 2.0  # how long a stopping camera may take to hand on what it holds; a read that blocks is left behind


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
    """Acknowledged by the log."""
    dropped: int
    """Never accepted: the way to the log was full."""
    damaged: int
    reconnects: int
    waiting: int = 0
    """Accepted and not acknowledged yet: on their way, or spooled."""


class CameraWorker:
    """Runs one camera. Thread rule: event loop.

    A frame is accepted when it leaves the outbox: only then it gets its number, so that the numbers of a session have no gaps and
    one that is missing in the log is a lost frame.
    """

    def __init__(self, config: CameraConfig, context: CaptureContext, publisher: Publisher) -> None:
        self.config, self._context, self._publisher = config, context, publisher
        self._outbox = Outbox(publisher.outbox_frames)
        self._capture = Capture(config, context, hand_over=self._outbox.hand_over)
        self._session, self._sequence = uuid.uuid4().hex[:12], 0
        self._accepted: GatedFrame | None = None

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
            waiting=self._publisher.waiting(self.config.name),
        )

    async def run(self) -> None:
        """Read the camera and hand on its frames until cancelled; return when a recording has ended.

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
        """Hand on until the outbox is closed and empty; a frame whose acceptance was cancelled goes first."""
        while True:
            if self._accepted is None:
                frame = await self._outbox.take()
                if frame is None:
                    return
                self._accepted = self._numbered(frame)
            await self._publisher.accept(self._accepted, self._note_published)
            self._accepted = None

    def _numbered(self, frame: GatedFrame) -> GatedFrame:
        frame_id = f"{self.config.name}/{self._session}/{self._sequence}"
        self._sequence += 1
        return GatedFrame(msgspec.structs.replace(frame.header, frame_id=frame_id), frame.jpeg)

    def _note_published(self) -> None:
        self._capture.progress.published += 1

    def _give_up_rest(self) -> None:
        rest = self._outbox.clear() + (self._accepted is not None)
        self._accepted = None
        if rest:
            self._context.metrics.frames_dropped.labels(self.config.name, self.config.region).inc(rest)
            self._capture.progress.dropped += rest
        self._context.metrics.camera_up.labels(self.config.name, self.config.region).set(0.0)
