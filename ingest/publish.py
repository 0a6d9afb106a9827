"""From an accepted frame to the log: the port of a camera's worker, and the way without a spool."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Log
from core.schema import encode
from core.topology import frames_topic
from ingest.capture import SystemClock
from ingest.outbox import GatedFrame

RETRY_S = 0.5  # between attempts to publish while the log is away

log = structlog.get_logger("ingest")


class Publisher(Protocol):
    """Takes accepted frames into its care. Frames of one camera reach the log in the order in which they were accepted."""

    @property
    def outbox_frames(self) -> int:
        """How many frames of a camera may wait to be accepted; beyond that the oldest is dropped."""
        ...

    async def accept(self, frame: GatedFrame, acknowledged: Callable[[], None]) -> None:
        """Take a frame, waiting while there is no room for it; ``acknowledged`` is called once the log has it.

        A frame whose acceptance was cancelled may be given again: then the log may hold it twice, under the same id.
        """
        ...

    def waiting(self, camera: str) -> int:
        """Return how many accepted frames of a camera the log has not acknowledged yet."""
        ...


class DirectPublisher:
    """Straight to the log, one frame of a camera at a time. Thread rule: event loop."""

    outbox_frames = 2  # with the log's own room, 0.6 s of hiccup at 10 fps; under overload an old frame is worth less than a fresh one

    def __init__(self, log_port: Log, metrics: Metrics, clock: SystemClock | None = None) -> None:
        self._log, self._metrics, self._clock = log_port, metrics, clock or SystemClock()
        self._waiting: set[str] = set()

    async def accept(self, frame: GatedFrame, acknowledged: Callable[[], None]) -> None:
        """Publish one frame, for as long as it takes: newer ones wait in the outbox, and are dropped there."""
        camera, region = frame.header.camera, frame.header.region
        self._waiting.add(camera)
        try:
            while not await self._publish(frame):  # noqa: ASYNC110 - the log is in another process: there is no event
                await asyncio.sleep(RETRY_S)
        finally:
            self._waiting.discard(camera)
        self._metrics.frames_published.labels(camera, region).inc()
        acknowledged()

    async def _publish(self, frame: GatedFrame) -> bool:
        header = msgspec.structs.replace(frame.header, published_s=self._clock.now_s())
        try:
            await self._log.publish(frames_topic(header.region), header.camera, encode(header, frame.jpeg))
        except UnavailableError as err:
            log.warning("frames wait: the log is away", camera=header.camera, error=str(err))
            return False
        return True

    def waiting(self, camera: str) -> int:
        """Return 1 while a frame of the camera is on its way, else 0."""
        return int(camera in self._waiting)
