"""A matcher process: takes probes from its shard's queue, searches, answers; follows the gallery and tells that it lives."""

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import structlog

from core.errors import MessageError, UnavailableError
from core.metrics import Metrics
from core.ports import Broker, Database, Delivery, QueueSpec, Subscription
from core.runner import first_error
from core.schema import Array, ProbeBatch, ShardAnswer, decode, encode
from core.topology import PROBES_EXCHANGE, QUEUE_EXPIRES_S, ShardId
from core.types import F32, check_array
from matcher.client import BATCH_PROBES
from matcher.combining import Question, Together
from matcher.loading import CONNECTIONS, OnProgress, load_shard
from matcher.local import LocalShard
from matcher.presence import Presence
from matcher.snapshot import follow_gallery

PREFETCH = 16
"""Batches held at a time: some to search together, few enough that a frozen replica takes little with it."""
LATE_S = 1.0  # an answer that comes this much after its deadline still tells the asker that the shard lives
REMEMBERED = 1024  # batches, to know a second copy by
FINISH_S = 3.0  # to answer what is held when the process is asked to stop
RETRY_S = 1.0
DEPTH_S = 1.0  # between two looks at the queue's length
MAX_REASONS = 100  # of poison, told one by one

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A batch taken from the queue and not answered yet."""

    delivery: Delivery
    batch: ProbeBatch
    question: Question
    probes: F32
    taken_s: float
    """By this process's clock: what waited too long in the queue was put away by the broker, so the time to answer counts from here."""

    @property
    def left_s(self) -> float:
        """How long the asker goes on waiting, at most."""
        return self.taken_s + self.batch.timeout_s - time.monotonic()

    @property
    def key(self) -> tuple[str, str]:
        """What a second copy has in common with the first: the batch, and where its answer goes."""
        return self.batch.batch_id, self.delivery.reply_to


@dataclass(kw_only=True)
class MatcherService:
    """One replica of one shard. Thread rule: one event loop; searches run on the shard's own thread."""

    db: Database
    shard: LocalShard
    broker: Broker
    shard_id: ShardId
    presence: Presence
    connections: int = CONNECTIONS
    """Parallel readers while the shard is loaded."""
    on_progress: OnProgress | None = None
    """Told how far the first load is."""
    metrics: Metrics = field(default_factory=Metrics)
    _state: str = "the gallery is loading"
    _reasons: set[str] = field(default_factory=set)
    _known: dict[tuple[str, str], None] = field(default_factory=dict)
    """Batches that are answered, or will be, oldest first."""

    async def check(self) -> str:
        """Return "" while probes are taken, else why not."""
        return self._state

    async def run(self) -> None:
        """Load, then answer until cancelled; then take nothing new, answer what is held, and leave.

        Raises:
            UnavailableError: no broker at the start, or it refuses the queue.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._patiently(self.presence.begin)
                tasks.create_task(self.presence.run(), name="presence")
                await self._patiently(self._load)
                tasks.create_task(follow_gallery(self.db, self.shard, connections=self.connections), name="gallery")
                tasks.create_task(self._watch_queue(), name="queue")
                await self._patiently(self.presence.become_ready)
                await self._serve()
        except BaseExceptionGroup as failed:
            raise first_error(failed) from failed
        finally:
            await self.presence.leave()

    async def _load(self) -> None:
        await load_shard(self.db, self.shard, connections=self.connections, on_progress=self._tell_progress)

    def _tell_progress(self, done: int, total: int) -> None:
        self._state = f"the gallery is loading: {done} of {total} references"
        if self.on_progress is not None:
            self.on_progress(done, total)

    async def _patiently(self, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await work()
            except UnavailableError as err:
                _log.warning("matcher can't start yet, trying again", shard=self.shard_id.label, reason=str(err))
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _serve(self) -> None:
        queue = QueueSpec(
            name=self.shard_id.queue, bindings=((PROBES_EXCHANGE, "fanout", ""),), prefetch=PREFETCH, expires_s=QUEUE_EXPIRES_S
        )
        async with self.broker.subscribe(queue) as probes, asyncio.TaskGroup() as tasks:
            desk = _Desk()
            answering = tasks.create_task(self._answer_all(probes, desk), name="answers")
            self._state = ""
            try:
                while True:
                    await self._take(probes, desk)
            finally:
                self._state = "draining"
                desk.close()
                await asyncio.wait({answering}, timeout=FINISH_S)

    async def _take(self, probes: Subscription, desk: "_Desk") -> None:
        """Take one batch in; what nobody can answer is put away with its reason."""
        delivery = await probes.get()
        try:
            held = _held(delivery)
        except MessageError as err:
            probes.reject(delivery, requeue=False)
            self._count("poison")
            kind = re.sub(r"\d+", "#", str(err))
            if kind not in self._reasons and len(self._reasons) < MAX_REASONS:
                self._reasons.add(kind)
                _log.warning("probes can't be read; told once per reason", shard=self.shard_id.label, reason=str(err))
            return
        if held.key in self._known:  # a hedge that found the replica which has the first copy, or a redelivery
            self._count("duplicate")
            probes.ack(delivery)
            return
        self._known[held.key] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        desk.put(held)

    async def _answer_all(self, probes: Subscription, desk: "_Desk") -> None:
        while batch := await desk.take():
            await self.presence.be_sure()
            together = Together[_Held](batch[0].question)
            for held in batch:
                if held.left_s <= 0:
                    self._count("expired")
                    probes.ack(held.delivery)
                else:
                    self.metrics.match_wait_seconds.labels(self.shard_id.label).observe(time.monotonic() - held.taken_s)
                    together.join(held.probes, held)
            if together.parts:
                await self._answer(probes, together)

    async def _answer(self, probes: Subscription, together: Together[_Held]) -> None:
        """Search probes of several askers in one call, and answer each."""
        first = together.parts[0][1].batch
        batch = first if len(together.parts) == 1 else msgspec.structs.replace(first, probes=Array.pack(together.probes))
        try:
            answer = await self.shard.ask(batch)
        except MessageError as err:
            answer = self._refusal(str(err), together.count)
        self.metrics.match_probes.labels(self.shard_id.label).inc(together.count)
        for held, candidates in together.split(answer.candidates):
            own = msgspec.structs.replace(answer, batch_id=held.batch.batch_id, candidates=tuple(candidates))
            try:
                await self.broker.publish(
                    "",
                    held.delivery.reply_to,
                    encode(own),
                    correlation_id=held.delivery.correlation_id,
                    expires_s=max(held.left_s, 0.0) + LATE_S,
                    confirm=False,
                )
            except UnavailableError:
                self._count("unsent")
                self._known.pop(held.key, None)
                probes.reject(held.delivery, requeue=True)  # a replica whose connection holds may still be in time
            else:
                self._count("refused" if own.problem else "answered")
                probes.ack(held.delivery)

    def _refusal(self, problem: str, count: int) -> ShardAnswer:
        return ShardAnswer(
            batch_id="",
            shard=self.shard_id.shard,
            shards_total=self.shard_id.shards_total,
            generation=self.shard.generation,
            candidates=((),) * count,
            problem=problem,
        )

    async def _watch_queue(self) -> None:
        """Show how much waits for this shard."""
        while True:
            with contextlib.suppress(UnavailableError):  # the broker's own metrics tell
                self.metrics.match_queue_depth.labels(self.shard_id.label).set(await self.broker.depth(self.shard_id.queue))
            await asyncio.sleep(DEPTH_S)

    def _count(self, outcome: str) -> None:
        self.metrics.match_batches.labels(self.shard_id.label, outcome).inc()


class _Desk:
    """What is held, in the order it came; bounded by the queue's prefetch. Thread rule: one event loop."""

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()
        self._news = asyncio.Event()
        self._closed = False

    def put(self, held: _Held) -> None:
        self._held.append(held)
        self._news.set()

    def close(self) -> None:
        """Let ``take`` end once all is taken."""
        self._closed = True
        self._news.set()

    async def take(self) -> list[_Held]:
        """Return the first batch with those behind it that ask the same, up to BATCH_PROBES; waits for one. None left: an empty list."""
        while not self._held and not self._closed:
            self._news.clear()
            await self._news.wait()
        taken: list[_Held] = []
        rest: deque[_Held] = deque()
        count = 0
        for held in self._held:
            joins = not taken or (held.question == taken[0].question and count + len(held.probes) <= BATCH_PROBES)
            (taken if joins else rest).append(held)
            count += len(held.probes) if joins else 0
        self._held = rest
        return taken


def _held(delivery: Delivery) -> _Held:
    """Read a batch. Raises MessageError: it can't be read, or says not where the answer goes."""
    batch, _ = decode(ProbeBatch, delivery.body)
    if not delivery.reply_to:
        raise MessageError(f"ProbeBatch {batch.batch_id[:80]}: no reply queue")
    probes = batch.probes.unpack()
    try:
        check_array("probes", probes, (None, None), np.float32)
    except ValueError as err:
        raise MessageError(f"ProbeBatch {batch.batch_id[:80]}: {err}") from err
    if len(probes) > BATCH_PROBES or not np.isfinite(probes).all():
        raise MessageError(f"ProbeBatch {batch.batch_id[:80]}: {len(probes)} probes: too many, or with numbers that are not finite")
    question = Question(model=batch.model, collection=batch.collection, k=batch.k, dimensions=probes.shape[1])
    return _Held(delivery=delivery, batch=batch, question=question, probes=probes, taken_s=time.monotonic())
