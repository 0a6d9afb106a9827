"""The recognizer as a service: frames from the log, sightings to the log, offsets only when those are acknowledged."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from core.carried import encode_sighting
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Consumer, Log, Partition
from core.topology import RECOGNIZE_GROUP, SIGHTINGS_TOPIC, frames_topic, region_of
from core.vault import Vault
from recognize.batch import Batch, DecodedAhead
from recognize.frames import read_frames
from recognize.patience import Patience
from recognize.recognizer import Recognizer, Shown, Told

__all__ = ["SIGHTINGS_TOPIC", "RecognizeService"]

POLL_S = 0.5  # an idle worker looks up this often to close tracks of silent cameras
ASK_AGAIN_S = 1.0  # how soon a sighting that a shard did not answer is asked again
ASK_AGAIN_MOST_S = 2.0
REJOIN_S = 1.0
LEAVE_S = 4.0  # for the last words of a worker that stops: less than core.runner.DRAIN_S


class RecognizeService:
    """One worker. Decoding, recognition and acknowledgement of three batches overlap. Thread rule: one event loop.

    While Kafka or every matcher is away, frames wait, and so does the log (it is bounded, or pauses); nothing is dropped here.
    """

    def __init__(
        self,
        *,
        recognizer: Recognizer,
        log: Log,
        metrics: Metrics,
        batch_frames: int,
        regions: Sequence[str] = ("*",),
        vault: Vault | None = None,
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
            vault: opens frames and seals sightings, where the log is others' too.
            clock: Unix seconds.
            on_finished: a sensor, told each frame and the time at which its sightings were acknowledged.
        """
        self._recognizer = recognizer
        self._log = log
        self._metrics = metrics
        self._batch_frames = batch_frames
        self._topics = [frames_topic(region) for region in regions]
        self._vault = vault
        self._clock = clock
        self._on_finished = on_finished
        self._logger = structlog.get_logger("recognize")
        self._patience = Patience("the log")
        self._epochs: Counter[Partition] = Counter()
        self._lost: set[Partition] = set()
        self._outgoing: asyncio.Queue[Batch] = asyncio.Queue(maxsize=2)
        self._leaving: Batch | None = None
        self._unsaid: list[Told] = []
        self._expire_at_s = 0.0
        self.joined = False
        """Whether the worker reads the log."""

    async def run(self) -> None:
        """Work until cancelled; then every open track is closed and its sighting published.

        A log that can't be joined, or is lost, is joined again.
        """
        try:
            while True:
                try:
                    await self._work()
                except* UnavailableError as err:
                    self._logger.warning("the log is lost, joining again", reason=str(err.exceptions[0]), retry_s=REJOIN_S)
                self.joined = False
                await self._last_words()  # what was not finished comes again, to whomever: nothing here goes on
                await asyncio.sleep(REJOIN_S)
        finally:
            self.joined = False
            with contextlib.suppress(TimeoutError, UnavailableError):
                async with asyncio.timeout(LEAVE_S):
                    await self._last_words()
                    await self._publish(await self._recognizer.complete())

    async def _work(self) -> None:
        ready = DecodedAhead(self._batch_frames)
        joined = self._log.consumer(self._topics, RECOGNIZE_GROUP, on_revoked=self._revoked)
        async with joined as consumer, asyncio.TaskGroup() as group:
            group.create_task(self._read(consumer, ready), name="recognize.read")
            group.create_task(self._recognize(ready), name="recognize.recognize")
            group.create_task(self._acknowledge(consumer), name="recognize.acknowledge")
            group.create_task(self._complete(), name="recognize.complete")

    async def _revoked(self, partitions: Sequence[Partition]) -> None:
        """Take note that frames go to another worker from now on; the tracks are closed between two batches."""
        self._epochs.update(partitions)
        self._lost.update(partitions)

    async def _read(self, consumer: Consumer, ready: DecodedAhead) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="jpeg") as pool:
            while True:
                records = await consumer.poll(self._batch_frames, POLL_S)
                self.joined = True
                received_s = self._clock()
                epochs = [self._epochs[record.topic, record.partition] for record in records]
                frames: list[Shown | str] = []
                if records:
                    frames = await loop.run_in_executor(
                        pool, partial(read_frames, records, received_s=received_s, clock=self._clock, vault=self._vault)
                    )
                await ready.put(Batch.of(records, frames, epochs))

    async def _recognize(self, ready: DecodedAhead) -> None:
        while True:
            batch = await ready.take()
            await self._release_lost()
            batch.keep(lambda frame: self._epochs[frame.partition] == frame.epoch)
            began_s = self._clock()
            broken: dict[str, str] = {}
            batch.told += await self._recognizer.process([frame.shown for frame in batch.frames], broken=broken)
            batch.put_aside(broken)
            batch.decided_s = self._clock()
            if batch.decided_s >= self._expire_at_s:
                self._expire_at_s = batch.decided_s + POLL_S
                batch.told += self._recognizer.expire(batch.decided_s)
            self._observe(batch, began_s)
            if batch.frames or batch.told or batch.poison:
                await self._outgoing.put(batch)

    async def _release_lost(self) -> None:
        if self._lost:
            told = self._recognizer.release(self._lost)
            self._lost.clear()
            await self._outgoing.put(Batch(told=told, decided_s=self._clock()))

    async def _acknowledge(self, consumer: Consumer) -> None:
        """Publish what was told, then finish the records: the one place where frames are accounted for."""
        while True:
            batch = self._leaving = await self._outgoing.get()
            for record, reason in batch.poison:
                self._logger.warning("frame put aside", camera=record.key, topic=record.topic, reason=reason)
                await self._patience.until_done(partial(consumer.dead_letter, record, reason))
                self._metrics.frames_dead.labels(record.key, region_of(record.topic)).inc()
            await self._publish(batch.told)
            if batch.frames:
                await self._patience.until_done(partial(consumer.commit, [frame.record for frame in batch.frames]))
            self._leaving = None
            self._finished(batch)

    def _finished(self, batch: Batch) -> None:
        now_s = self._clock()
        for shown in (frame.shown for frame in batch.frames):
            if self._on_finished is not None:
                self._on_finished(shown, now_s)
            self._metrics.frames_finished.labels(shown.frame.camera, shown.region).inc()
            self._metrics.stage_seconds.labels("ack").observe(max(0.0, now_s - batch.decided_s))
            self._metrics.stage_seconds.labels("recognize").observe(max(0.0, now_s - shown.published_s))

    def _observe(self, batch: Batch, began_s: float) -> None:
        stage = self._metrics.stage_seconds.labels
        for shown in (frame.shown for frame in batch.frames):
            stage("publish").observe(max(0.0, shown.published_s - shown.frame.captured_s))
            stage("queue").observe(max(0.0, shown.received_s - shown.published_s))
            stage("decode").observe(max(0.0, shown.decoded_s - shown.received_s))
            stage("wait").observe(max(0.0, began_s - shown.decoded_s))

    async def _complete(self) -> None:
        """Ask again about sightings that a shard did not answer, as long as there are any; never often."""
        pause_s = ASK_AGAIN_S
        while True:
            await asyncio.sleep(pause_s)
            if not self._recognizer.incomplete:
                pause_s = ASK_AGAIN_S
                continue
            with contextlib.suppress(UnavailableError):  # the next try comes soon
                if told := await self._recognizer.complete():
                    await self._outgoing.put(Batch(told=told))
            pause_s = ASK_AGAIN_MOST_S if self._recognizer.incomplete else ASK_AGAIN_S

    async def _last_words(self) -> None:
        """Publish what is still to be told, and the end of every track."""
        waiting = [] if self._leaving is None else [self._leaving]
        self._leaving = None
        while not self._outgoing.empty():
            waiting.append(self._outgoing.get_nowait())
        self._unsaid += [one for batch in waiting for one in batch.told]
        self._unsaid += self._recognizer.finish()
        await self._publish(self._unsaid)
        self._unsaid = []

    async def _publish(self, told: Sequence[Told]) -> None:
        """Publish side by side and return once all are acknowledged, whenever that is."""
        await asyncio.gather(*(self._patience.until_done(partial(self._publish_one, one)) for one in told))

    async def _publish_one(self, told: Told) -> None:
        sighting, thumbnail = told
        await self._log.publish(SIGHTINGS_TOPIC, sighting.camera, encode_sighting(self._vault, sighting, thumbnail))
