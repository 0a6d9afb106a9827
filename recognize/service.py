"""The recognizer as a service: frames from the log, sightings to the log, offsets only when those are acknowledged."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from core.errors import MessageError, UnreadableMediaError
from core.jpeg import decode_jpeg
from core.metrics import Metrics
from core.ports import Consumer, Log, Record
from core.schema import FrameHeader, decode, encode
from core.types import Frame
from recognize.recognizer import Recognizer, Shown, Told

GROUP = "recognize"
SIGHTINGS_TOPIC = "sightings"
POLL_S = 0.5  # an idle worker looks up this often to close tracks of silent cameras
SILENCE_S = 3.0  # frames may be this late (capture to here) before a silent camera's tracks are closed


@dataclass(frozen=True, slots=True)
class _Ready:
    """Decoded frames with the records they came in; records that could not be read are already put aside."""

    shown: list[Shown]
    records: list[Record]


class RecognizeService:
    """One worker. Decoding of the next batch overlaps with recognition of this one. Thread rule: one event loop."""

    def __init__(
        self,
        *,
        recognizer: Recognizer,
        log: Log,
        metrics: Metrics,
        batch_frames: int,
        regions: Sequence[str] = ("*",),
        clock: Callable[[], float] = time.time,
        on_finished: Callable[[Shown, float], None] | None = None,
    ) -> None:
        """Compose a worker.

        Args:
            recognizer: the state of its cameras.
            log: where frames come from and sightings go to.
            metrics: of the process.
            batch_frames: most frames in one batch.
            regions: whose frames it takes; ``*`` = all.
            clock: Unix seconds.
            on_finished: a sensor, told each frame and the time at which its sightings were acknowledged.
        """
        self._recognizer = recognizer
        self._log = log
        self._metrics = metrics
        self._batch_frames = batch_frames
        self._topics = [f"frames.{region}" for region in regions]
        self._clock = clock
        self._on_finished = on_finished
        self._logger = structlog.get_logger("recognize")

    async def run(self) -> None:
        """Work until cancelled; then every open track is closed and its sighting published."""
        ready: asyncio.Queue[_Ready] = asyncio.Queue(maxsize=1)
        try:
            async with self._log.consumer(self._topics, GROUP) as consumer, asyncio.TaskGroup() as group:
                group.create_task(self._read(consumer, ready), name="recognize.read")
                group.create_task(self._recognize(consumer, ready), name="recognize.recognize")
        finally:
            await self._publish(self._recognizer.finish())

    async def _read(self, consumer: Consumer, ready: asyncio.Queue[_Ready]) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="jpeg") as pool:
            while True:
                records = await consumer.poll(self._batch_frames, POLL_S)
                batch = _Ready([], [])
                for record in records:
                    try:
                        batch.shown.append(await self._decode(record, pool))
                        batch.records.append(record)
                    except (MessageError, UnreadableMediaError) as err:
                        self._logger.warning("frame put aside", camera=record.key, topic=record.topic, reason=str(err))
                        self._metrics.frames_dead.labels(record.key, _region(record)).inc()
                        await consumer.dead_letter(record, str(err))
                await ready.put(batch)

    async def _decode(self, record: Record, pool: ThreadPoolExecutor) -> Shown:
        """Decode a record in the JPEG thread."""
        header, payload = decode(FrameHeader, record.value)
        image = await asyncio.get_running_loop().run_in_executor(pool, decode_jpeg, payload)
        if image.shape[:2] != (header.height_px, header.width_px):
            raise MessageError(f"frame of {header.width_px}x{header.height_px} px holds a picture of {image.shape[1]}x{image.shape[0]} px")
        frame = Frame(frame_id=header.frame_id, camera=header.camera, captured_s=header.captured_s, image=image)
        return Shown(frame=frame, region=header.region, published_s=header.published_s, scene_cut=header.scene_cut)

    async def _recognize(self, consumer: Consumer, ready: asyncio.Queue[_Ready]) -> None:
        while True:
            batch = await ready.get()
            if not batch.shown:
                await self._publish(self._recognizer.expire(self._clock() - SILENCE_S))
                continue
            await self._publish(await self._recognizer.process(batch.shown))
            await consumer.commit(batch.records)
            now_s = self._clock()
            for shown in batch.shown:
                if self._on_finished is not None:
                    self._on_finished(shown, now_s)
                self._metrics.frames_finished.labels(shown.frame.camera, shown.region).inc()
                self._metrics.stage_seconds.labels("publish").observe(max(0.0, shown.published_s - shown.frame.captured_s))
                self._metrics.stage_seconds.labels("recognize").observe(max(0.0, now_s - shown.published_s))

    async def _publish(self, told: Sequence[Told]) -> None:
        for sighting, thumbnail in told:
            await self._log.publish(SIGHTINGS_TOPIC, sighting.camera, encode(sighting, thumbnail))


def _region(record: Record) -> str:
    return record.topic.removeprefix("frames.")
