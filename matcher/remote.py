"""Who is this, asked of a fleet: scatters probes to every shard over the broker and gathers what comes in time."""

import asyncio
import dataclasses
import itertools
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from core.errors import MessageError, SightlineError, UnavailableError
from core.metrics import Metrics
from core.ports import Broker, Delivery, MatchAnswer, QueueSpec, Subscription
from core.runner import first_error
from core.schema import Array, ProbeBatch, ShardAnswer, decode, encode
from core.topology import PROBES_EXCHANGE, ShardId
from core.types import F32
from matcher.breaker import Breaker
from matcher.client import BATCH_PROBES, batches_of
from matcher.combining import Question, Together
from matcher.gathering import Gathering, joined, shard_of
from matcher.hedging import HedgeBudget, Latency
from matcher.shard import MAX_K

WINDOW_S = 0.002
"""While an answer to the same question is under way, further probes wait this long for company; else they leave at once."""
LATE_S = 2.0  # an answer that comes this much after its deadline still tells how its shard is
REPLIES_AT_A_TIME = 256
HEDGE_FLOOR_S = 0.02  # a second replica asked sooner would mostly race the first one's answer on the wire
CLOCK_STEP_S = 0.001  # a timer of the loop may come this much early
HEDGE_LATEST = 0.5  # of the deadline: later, a replica has no time left

Answered = asyncio.Future[MatchAnswer]


@dataclass(slots=True, kw_only=True)
class _Open:
    """What a batch needs until its askers have their answers."""

    together: Together[Answered]
    gathering: Gathering
    body: bytes
    hedged: set[ShardId] = field(default_factory=set)
    hedging: asyncio.TimerHandle | None = None


@dataclass(slots=True, kw_only=True)
class _Asked:
    """One batch, remembered until even late answers are of no use; light once its askers have their answers."""

    batch_id: str
    asked_s: float
    deadline_s: float
    """Both by the loop's clock."""
    reply_to: str
    open: _Open | None
    heard: set[ShardId] = field(default_factory=set)


@asynccontextmanager
async def open_remote_matcher(broker: Broker, *, timeout_s: float, metrics: Metrics | None = None) -> AsyncIterator["RemoteMatcher"]:
    """Listen on a reply queue of this process's own, and ask the fleet's matchers inside the block.

    Raises:
        UnavailableError: no broker at the start.
    """
    try:
        async with broker.subscribe(QueueSpec(name="", prefetch=REPLIES_AT_A_TIME)) as replies, asyncio.TaskGroup() as tasks:
            matcher = RemoteMatcher(broker, replies, tasks=tasks, timeout_s=timeout_s, metrics=metrics or Metrics())
            receiving = tasks.create_task(matcher.receive(), name="match answers")
            try:
                yield matcher
            finally:
                receiving.cancel()
                matcher.close()
    except BaseExceptionGroup as failed:
        raise first_error(failed) from failed


class RemoteMatcher:
    """core.ports.Matcher over a Broker. Made by ``open_remote_matcher``. Thread rule: one event loop; searches may run side by side."""

    def __init__(self, broker: Broker, replies: Subscription, *, tasks: asyncio.TaskGroup, timeout_s: float, metrics: Metrics) -> None:
        self._broker = broker
        self._replies = replies
        self._tasks = tasks
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        name = uuid.uuid4().hex
        self._ids = (f"{name}/{number}" for number in itertools.count())
        self._breaker = Breaker()
        self._latency: dict[ShardId, Latency] = defaultdict(Latency)
        self._budget = HedgeBudget()
        self._leaving: dict[Question, tuple[Together[Answered], asyncio.TimerHandle]] = {}
        self._under_way: dict[Question, int] = defaultdict(int)
        self._asked: dict[str, _Asked] = {}
        self._due: deque[_Asked] = deque()  # by deadline: all have the same time
        self._late: deque[_Asked] = deque()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def missing(self) -> int:
        """How many shards were silent when last asked; 0 = what was missing has come back, ask again what was left unclear.

        Only searches keep it up to date, also those that do not wait for a silent shard.
        """
        return self._breaker.missing

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        """Return for each row of probes (N, D) float32, unit norm, up to k subjects, best first; what came by the deadline.

        No probes are a question too: how large is the gallery?

        Raises:
            UnavailableError: when no shard answers in time, or there is no broker. MessageError: when the probes do not fit the model,
                or k the shards.
        """
        parts = list(batches_of(probes))
        if not np.isfinite(probes).all():  # would spoil the batch of other askers
            raise MessageError("probes hold numbers that are not finite")
        if not 1 <= k <= MAX_K:
            raise MessageError(f"k {k}, must be 1..{MAX_K}")
        question = Question(model=model, collection=collection, k=k, dimensions=probes.shape[1])
        return joined(await asyncio.gather(*[self._join(question, part) for part in parts]))

    async def receive(self) -> None:
        """Take answers until cancelled."""
        while True:
            delivery = await self._replies.get()
            self._replies.ack(delivery)
            self._take(delivery)

    def close(self) -> None:
        """Leave no question open."""
        self._closed = True
        for timer in [self._sweeping, *(timer for _, timer in self._leaving.values())]:
            if timer is not None:
                timer.cancel()
        for together, _ in self._leaving.values():
            _fail(together, UnavailableError("matcher: this process is ending"))
        for asked in self._due:
            self._finish(asked, UnavailableError("matcher: this process is ending"))

    def _join(self, question: Question, probes: F32) -> Answered:
        """Put probes into the batch that leaves next, and return where its answer will be."""
        if self._closed:
            raise UnavailableError("matcher: this process is ending")
        if question in self._leaving and not self._leaving[question][0].fits(probes, BATCH_PROBES):
            self._send(question)
        if question not in self._leaving:
            delay_s = WINDOW_S if self._under_way[question] else 0.0
            self._leaving[question] = (Together(question), self._loop.call_later(delay_s, self._send, question))
        answer: Answered = self._loop.create_future()
        together, _ = self._leaving[question]
        together.join(probes, answer)
        if together.count >= BATCH_PROBES:
            self._send(question)
        return answer

    def _send(self, question: Question) -> None:
        """Scatter what has come together."""
        together, timer = self._leaving.pop(question)
        timer.cancel()
        now_s = self._loop.time()
        batch = ProbeBatch(
            batch_id=next(self._ids),
            model=question.model,
            collection=question.collection,
            probes=Array.pack(together.probes),
            k=question.k,
            timeout_s=self._timeout_s,
        )
        asked = _Asked(
            batch_id=batch.batch_id,
            asked_s=now_s,
            deadline_s=now_s + self._timeout_s,
            reply_to=self._replies.name,
            open=_Open(together=together, gathering=Gathering(probes=together.count, k=question.k), body=encode(batch)),
        )
        self._asked[asked.batch_id] = asked
        self._under_way[question] += 1
        self._due.append(asked)
        self._sweep_at(asked.deadline_s)
        self._budget.earn(len(self._breaker.expected))
        self._tasks.create_task(self._publish(asked), name="probes")

    async def _publish(self, asked: _Asked) -> None:
        assert asked.open is not None
        try:
            await self._put(asked, asked.open.body, PROBES_EXCHANGE, "")
        except UnavailableError as err:
            asked.reply_to = ""  # no shard's fault
            self._finish(asked, err)
        else:
            self._plan_hedge(asked)

    async def _put(self, asked: _Asked, body: bytes, exchange: str, routing_key: str) -> None:
        await self._broker.publish(
            exchange,
            routing_key,
            body,
            reply_to=self._replies.name,
            correlation_id=asked.batch_id,
            expires_s=max(asked.deadline_s - self._loop.time(), 0.001),
            confirm=False,
        )

    def _take(self, delivery: Delivery) -> None:
        try:
            answer, _ = decode(ShardAnswer, delivery.body)
            shard = shard_of(answer)
            asked = self._asked.get(answer.batch_id)
            if asked is None or shard in asked.heard:
                return  # long forgotten, or the other replica's
            self._note(asked, shard)
            if asked.open is None:
                return
            if answer.problem:
                self._finish(asked, MessageError(answer.problem))
                return
            gathering = asked.open.gathering
            gathering.add(answer)
        except MessageError:
            self._metrics.match_answers_unreadable.inc()
            return
        if gathering.complete or not any(gathering.lacks(shard) for shard in self._breaker.expected):
            self._finish(asked)

    def _note(self, asked: _Asked, shard: ShardId) -> None:
        """Learn from an answer, in time or late, how its shard is."""
        now_s = self._loop.time()
        asked.heard.add(shard)
        if shard not in self._latency:  # counters of a new shard begin at zero, where a rate can see their first step
            self._metrics.match_hedges.labels(shard.label)
            self._metrics.match_answers_late.labels(shard.label)
        self._breaker.answered(shard, asked.asked_s)
        self._latency[shard].add(now_s - asked.asked_s)
        self._metrics.match_answer_seconds.labels(shard.label).observe(now_s - asked.asked_s)
        self._metrics.match_breaker_open.labels(shard.label).set(0)
        if now_s > asked.deadline_s:
            self._metrics.match_answers_late.labels(shard.label).inc()

    def _finish(self, asked: _Asked, error: SightlineError | None = None) -> None:
        """Give the askers what there is; whoever waited for this answer to leave together leaves now."""
        work, asked.open = asked.open, None
        if work is None:
            return
        if work.hedging is not None:
            work.hedging.cancel()
        self._left(work.together.question)
        if error is None and not work.gathering.answered:
            error = UnavailableError(
                f"matcher: no shard answered within {self._timeout_s:g} s; does `sightline match` run for every shard, and is it ready?"
            )
        if error is not None:
            self._metrics.match_batches_asked.labels("failed").inc()
            _fail(work.together, error)
            return
        answer = work.gathering.result()
        self._metrics.match_batches_asked.labels("partial" if answer.shards_missing else "complete").inc()
        for asker, candidates in work.together.split(answer.candidates):
            if not asker.done():
                asker.set_result(dataclasses.replace(answer, candidates=tuple(candidates)))

    def _left(self, question: Question) -> None:
        self._under_way[question] -= 1
        if not self._under_way[question]:
            del self._under_way[question]
            if question in self._leaving and not self._closed:
                self._send(question)

    def _sweep(self) -> None:
        """End what is past its deadline, and take note of who was silent."""
        self._sweeping = None
        now_s = self._loop.time()
        while self._due and self._due[0].deadline_s <= now_s:
            asked = self._due.popleft()
            self._finish(asked)
            if asked.reply_to == self._replies.name:  # else the answers went to a queue that is gone
                silent = [shard for shard in self._breaker.known if shard not in asked.heard]
                for shard in silent:
                    self._breaker.silent(shard, asked.asked_s)
                for shard in silent:  # a layout may have been forgotten meanwhile: closed
                    self._metrics.match_breaker_open.labels(shard.label).set(self._breaker.is_open(shard))
            self._late.append(asked)
        while self._late and self._late[0].deadline_s + LATE_S <= now_s:
            del self._asked[self._late.popleft().batch_id]
        if self._late:
            self._sweep_at(self._late[0].deadline_s + LATE_S)
        if self._due:
            self._sweep_at(self._due[0].deadline_s)

    def _sweep_at(self, at_s: float) -> None:
        """Sweep at this time of the loop's clock, if not sooner."""
        if self._sweeping is not None:
            if self._sweeping.when() <= at_s:
                return
            self._sweeping.cancel()
        self._sweeping = self._loop.call_at(at_s, self._sweep)

    def _plan_hedge(self, asked: _Asked) -> None:
        """Wake up when the first of the shards that are still waited for is past its p95."""
        if asked.open is None:
            return
        if due_s := [asked.asked_s + delay_s for _, delay_s in self._hedgeable(asked, asked.open)]:
            asked.open.hedging = self._loop.call_at(min(due_s), lambda: self._tasks.create_task(self._hedge(asked), name="hedge"))

    def _hedgeable(self, asked: _Asked, work: _Open) -> list[tuple[ShardId, float]]:
        """Return the shards that a batch waits for, and after how many seconds each should be asked once more."""
        longest_s = HEDGE_LATEST * self._timeout_s
        return [
            (shard, min(max(p95_s, HEDGE_FLOOR_S), longest_s))
            for shard in self._breaker.expected
            if shard not in work.hedged and work.gathering.lacks(shard) and (p95_s := self._latency[shard].p95_s) is not None
        ]

    async def _hedge(self, asked: _Asked) -> None:
        """Ask once more where the p95 has passed, straight into the shard's queue: a replica may take it. Duplicates are dropped."""
        if asked.open is None:
            return
        waited_s = self._loop.time() - asked.asked_s
        for shard in [shard for shard, delay_s in self._hedgeable(asked, asked.open) if delay_s <= waited_s + CLOCK_STEP_S]:
            asked.open.hedged.add(shard)
            if not self._budget.spend():
                continue
            self._metrics.match_hedges.labels(shard.label).inc()
            try:
                await self._put(asked, asked.open.body, "", shard.queue)
            except UnavailableError:
                return  # the deadline tells the asker
            if asked.open is None:
                return
        self._plan_hedge(asked)


def _fail(together: Together[Answered], error: SightlineError) -> None:
    for _, asker in together.parts:
        if not asker.done():
            asker.set_exception(error)
