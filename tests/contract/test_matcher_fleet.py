"""Matchers and askers over the in-process broker and RabbitMQ: never a wrong answer, each complete or flagged."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from core.adapters.amqp import open_amqp
from core.adapters.memory_broker import MemoryBroker
from core.errors import MessageError, UnavailableError
from core.metrics import Metrics
from core.ports import Broker, Database, MatchAnswer, QueueSpec
from core.schema import Array, ProbeBatch, encode
from core.settings import BrokerSettings
from core.topology import PROBES_EXCHANGE, QUEUE_EXPIRES_S, ShardId
from core.types import F32
from matcher.breaker import SILENT_BATCHES
from matcher.presence import open_replicas
from matcher.remote import RemoteMatcher
from matcher.service import PREFETCH
from tests.builders.amqp import forget
from tests.builders.fleet import Apart, Fleet, enrol, erase, people, person
from tests.builders.matcher import MODEL, unit_rows

PEOPLE = 60
VECTORS = unit_rows(PEOPLE + 8, 8)
ROWS = people(VECTORS[:PEOPLE])
K = 3


@pytest.fixture(params=["memory", "rabbitmq"])
async def fleet(request: pytest.FixtureRequest, db: Database) -> AsyncIterator[Fleet]:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    memory = MemoryBroker()
    url = "" if request.param == "memory" else request.getfixturevalue("amqp_url")

    @asynccontextmanager
    async def connect() -> AsyncIterator[Broker]:
        if not url:
            yield Apart(memory, prefix)
            return
        async with open_amqp(url, BrokerSettings(), name="test") as broker:
            yield Apart(broker, prefix)

    await enrol(db, ROWS)
    yield Fleet(db=db, connect=connect)
    if url:
        await asyncio.to_thread(forget, url, [prefix + PROBES_EXCHANGE])


async def ask(matcher: RemoteMatcher, probes: F32 = VECTORS, k: int = K) -> MatchAnswer:
    return await matcher.search(probes, model=MODEL, collection="default", k=k)


def nearest(probes: F32, k: int = K, vectors: F32 = VECTORS[:PEOPLE]) -> list[list[str]]:
    """The oracle: every cosine, by NumPy."""
    return [[f"P{number}" for number in row] for row in np.argsort(-(probes @ vectors.T), axis=1)[:, :k]]


def names(answer: MatchAnswer) -> list[list[str]]:
    return [[one.subject for one in of_probe] for of_probe in answer.candidates]


def total(metrics: Metrics, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
    )


class Searching:
    """Asks all the time, and keeps every answer with how long it took."""

    def __init__(self, matcher: RemoteMatcher) -> None:
        self._matcher = matcher
        self.answers: list[tuple[F32, MatchAnswer, float]] = []

    async def run(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        while True:
            probes = VECTORS[rng.integers(0, PEOPLE, rng.integers(1, 9))]
            started_s = time.monotonic()
            self.answers.append((probes, await ask(self._matcher, probes), time.monotonic() - started_s))
            await asyncio.sleep(0.002)

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator["Searching"]:
        async with asyncio.TaskGroup() as tasks:
            askers = [tasks.create_task(self.run(seed)) for seed in range(3)]
            try:
                await self.some_more()
                yield self
                await self.some_more()
            finally:
                for asker in askers:
                    asker.cancel()

    async def some_more(self, count: int = 10) -> None:
        """Wait until so many more answers came."""
        enough = len(self.answers) + count
        while len(self.answers) < enough:  # noqa: ASYNC110 - counts what others do
            await asyncio.sleep(0.005)

    def check(self) -> None:
        """No answer was wrong, none was partial."""
        for probes, answer, _ in self.answers:
            assert answer.shards_missing == 0
            assert names(answer) == nearest(probes)


@contextlib.asynccontextmanager
async def frozen_replica(fleet: Fleet, shard: int, shards_total: int) -> AsyncIterator[None]:
    """A replica that takes probes and never answers, as a stopped process does; what it took comes back when it goes."""
    name = ShardId(shards_total=shards_total, shard=shard).queue
    queue = QueueSpec(name=name, bindings=((PROBES_EXCHANGE, "fanout", ""),), prefetch=PREFETCH, expires_s=QUEUE_EXPIRES_S)
    async with fleet.connect() as broker, broker.subscribe(queue):
        yield


@pytest.mark.parametrize("shards_total", [1, 2, 3])
async def test_any_number_of_shards_answers_as_one_gallery(fleet: Fleet, shards_total: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for shard in range(shards_total):
            await stack.enter_async_context(fleet.matcher(shard, shards_total))
        asker = await stack.enter_async_context(fleet.asker())
        answer = await ask(asker)
        assert names(answer) == nearest(VECTORS)
        scores = [of_probe[0].score for of_probe in answer.candidates]
        np.testing.assert_allclose(scores, (VECTORS @ VECTORS[:PEOPLE].T).max(axis=1), atol=1e-6)
        assert (answer.shards_missing, answer.references, answer.generation) == (0, PEOPLE, PEOPLE)
        assert (await ask(asker, VECTORS[:0])).references == PEOPLE
        assert asker.missing == 0


async def test_a_shard_has_its_counters_from_its_first_answer_on(fleet: Fleet) -> None:
    metrics = Metrics()
    async with fleet.matcher(0, 1), fleet.asker(metrics=metrics) as asker:
        await ask(asker)
    for name in ("hedges_total", "late_answers_total"):
        assert f'sightline_matcher_{name}{{shard="0/1"}} 0.0'.encode() in metrics.render()


async def test_nobody_there_is_an_error_in_time(fleet: Fleet) -> None:
    async with fleet.asker(timeout_s=0.2) as asker:
        started_s = time.monotonic()
        with pytest.raises(UnavailableError, match=r"matcher: no shard answered within 0\.2 s; does `sightline match` run"):
            await ask(asker)
        assert time.monotonic() - started_s < 5.0


async def test_questions_that_make_no_sense_are_errors_and_spoil_no_other(fleet: Fleet) -> None:
    async with fleet.matcher(0, 2), fleet.matcher(1, 2), fleet.asker() as asker:
        wrong = [ask(asker, unit_rows(2, 9)), ask(asker, np.full((1, 8), np.nan, np.float32)), ask(asker, VECTORS[:1], k=0)]
        *problems, right = await asyncio.gather(*wrong, ask(asker), return_exceptions=True)
        assert [type(problem) for problem in problems] == [MessageError] * 3
        assert "9 dimensions, model has 8" in str(problems[0])
        assert isinstance(right, MatchAnswer)
        assert names(right) == nearest(VECTORS)


async def test_poison_is_put_away_and_blocks_nobody(fleet: Fleet) -> None:
    metrics = Metrics()
    batch = ProbeBatch(batch_id="b", model=MODEL, collection="default", probes=Array.pack(VECTORS[:1]), k=1, timeout_s=9.0)
    poison = [
        b"",
        b"\xff" * 40,
        encode(ProbeBatch(batch_id="b", model=MODEL, collection="c", probes=Array("<f4", (9, 9), b"1234"), k=1, timeout_s=9.0)),
        encode(ProbeBatch(batch_id="b", model=MODEL, collection="c", probes=Array.pack(unit_rows(65, 8)), k=1, timeout_s=9.0)),
        encode(batch),  # without a reply queue
    ]
    async with fleet.matcher(0, 1, metrics=metrics), fleet.asker() as asker, fleet.connect() as broker:
        for body in poison * PREFETCH:
            await broker.publish(PROBES_EXCHANGE, "", body, reply_to="" if body == poison[-1] else "nowhere")
        assert names(await ask(asker)) == nearest(VECTORS)
        assert total(metrics, "sightline_matcher_batches_total", outcome="poison") == len(poison) * PREFETCH


async def test_what_is_past_its_deadline_is_not_searched(fleet: Fleet) -> None:
    metrics = Metrics()
    old = ProbeBatch(batch_id="b", model=MODEL, collection="default", probes=Array.pack(VECTORS[:1]), k=1, timeout_s=0.0)
    async with fleet.matcher(0, 1, metrics=metrics), fleet.asker() as asker, fleet.connect() as broker:
        await broker.publish(PROBES_EXCHANGE, "", encode(old), reply_to="nowhere")
        await ask(asker)
        assert total(metrics, "sightline_matcher_batches_total", outcome="expired") == 1


async def test_a_second_copy_for_the_same_asker_is_not_searched_again(fleet: Fleet) -> None:
    metrics = Metrics()
    batch = ProbeBatch(batch_id="x", model=MODEL, collection="default", probes=Array.pack(VECTORS[:1]), k=1, timeout_s=30.0)
    async with fleet.matcher(0, 1, metrics=metrics), fleet.asker() as asker, fleet.connect() as broker:
        for reply_to in ("one", "one", "another"):
            await broker.publish(PROBES_EXCHANGE, "", encode(batch), reply_to=reply_to)
        await ask(asker, VECTORS[:1])
        assert total(metrics, "sightline_matcher_batches_total", outcome="duplicate") == 1
        assert total(metrics, "sightline_matcher_batches_total", outcome="answered") == 3


async def test_cameras_share_batches(fleet: Fleet) -> None:
    asked, answered = Metrics(), Metrics()
    async with fleet.matcher(0, 1, metrics=answered), fleet.asker(metrics=asked) as asker:
        await asyncio.gather(*(ask(asker, VECTORS[row : row + 1]) for row in range(64)))
        answers = await asyncio.gather(*(ask(asker, VECTORS[row : row + 2]) for row in range(40)))
        assert [names(answer) for answer in answers] == [nearest(VECTORS[row : row + 2]) for row in range(40)]
        assert total(asked, "sightline_matcher_asked_batches_total", outcome="complete") <= 4  # 144 probes
        assert total(answered, "sightline_matcher_probes_total") == 144


async def test_a_silent_shard_costs_one_deadline_then_nothing_and_is_noticed_when_it_is_back(fleet: Fleet) -> None:
    metrics, timeout_s = Metrics(), 1.5
    async with fleet.matcher(0, 2), fleet.asker(timeout_s=timeout_s, metrics=metrics) as asker:
        async with fleet.matcher(1, 2):
            assert (await ask(asker)).shards_missing == 0
        async with frozen_replica(fleet, 1, 2):
            for _ in range(SILENT_BATCHES):
                answer, seconds = await timed(lambda: ask(asker, VECTORS[:4]))
                assert timeout_s * 0.9 <= seconds < 2 * timeout_s  # not a sweep later
                assert answer.shards_missing == 1
                assert {one for row in names(answer) for one in row} <= {f"P{number}" for number in range(PEOPLE // 2)}
            await until(lambda: total(metrics, "sightline_matcher_breaker_open", shard="1/2") == 1)
            for _ in range(3):
                answer, seconds = await timed(lambda: ask(asker, VECTORS[:4]))
                assert seconds < timeout_s * 0.7
                assert (answer.shards_missing, asker.missing) == (1, 1)
        async with fleet.matcher(1, 2):
            await until_async(lambda: complete(asker))
            answer, _ = await timed(lambda: ask(asker))
            assert (names(answer), answer.shards_missing, asker.missing) == (nearest(VECTORS), 0, 0)


async def test_a_frozen_replica_is_hedged_around(fleet: Fleet) -> None:
    metrics = Metrics()
    async with fleet.matcher(0, 1), fleet.asker(metrics=metrics) as asker:
        for _ in range(30):
            await ask(asker, VECTORS[:2])
        async with frozen_replica(fleet, 0, 1):
            for _ in range(2 * PREFETCH + 8):
                answer, seconds = await timed(lambda: ask(asker, VECTORS[:2]))
                assert (names(answer), answer.shards_missing) == (nearest(VECTORS[:2]), 0)
                assert seconds < 4.0
        assert 0 < total(metrics, "sightline_matcher_hedges_total") <= PREFETCH + 8


async def test_the_number_of_shards_changes_while_everyone_asks(fleet: Fleet) -> None:
    async with fleet.asker() as asker, contextlib.AsyncExitStack() as new:
        searching = Searching(asker)
        async with contextlib.AsyncExitStack() as old:
            for shard in range(2):
                await old.enter_async_context(fleet.matcher(shard, 2))
            async with searching.going_on():
                for shard in range(3):
                    await new.enter_async_context(fleet.matcher(shard, 3))
                    await searching.some_more()
                await old.aclose()
                await searching.some_more(30)
        searching.check()
        assert searching.answers[-1][1].references == PEOPLE


async def test_replicas_are_restarted_one_after_the_other_without_a_partial_answer(fleet: Fleet) -> None:
    async with fleet.asker() as asker, contextlib.AsyncExitStack() as stack:
        replicas = []
        for shard in (0, 1, 0, 1):
            one = contextlib.AsyncExitStack()
            stack.push_async_callback(one.aclose)
            await one.enter_async_context(fleet.matcher(shard, 2))
            replicas.append((shard, one))
        searching = Searching(asker)
        async with searching.going_on():
            for shard, one in replicas:
                await one.aclose()
                await searching.some_more()
                await one.enter_async_context(fleet.matcher(shard, 2))
                await searching.some_more()
        searching.check()


async def test_enrolments_and_erasures_are_visible_everywhere_before_they_are_told(fleet: Fleet) -> None:
    async with fleet.asker() as asker, open_replicas(fleet.db) as replicas, contextlib.AsyncExitStack() as stack:
        for shard in (0, 1, 0, 1):
            await stack.enter_async_context(fleet.matcher(shard, 2))
        seconds = []
        for number in range(PEOPLE, PEOPLE + 8):
            row = person(number * 7, VECTORS[number])
            generation = await enrol(fleet.db, [row])
            _, took_s = await timed(lambda: replicas.await_visible(generation, 5.0))  # noqa: B023 - awaited here
            seconds.append(took_s)
            answers = await asyncio.gather(*(ask(asker, VECTORS[number : number + 1], k=1) for _ in range(4)))
            assert {answer.candidates[0][0].subject for answer in answers} == {row.subject}
            assert all(answer.generation >= generation for answer in answers)
            await replicas.await_visible(await erase(fleet.db, row), 5.0)
            answers = await asyncio.gather(*(ask(asker, VECTORS[number : number + 1], k=1) for _ in range(4)))
            assert row.subject not in {answer.candidates[0][0].subject for answer in answers}
        assert sorted(seconds)[4] < 1.0


async def timed(work: Callable[[], object]) -> tuple[MatchAnswer, float]:
    started_s = time.monotonic()
    result = await work()  # type: ignore[misc]
    return result, time.monotonic() - started_s


async def complete(asker: RemoteMatcher) -> bool:
    return (await ask(asker, VECTORS[:4])).shards_missing == 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a metric has no event
            await asyncio.sleep(0.02)


async def until_async(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # type: ignore[misc] # noqa: ASYNC110 - each look is a question
            await asyncio.sleep(0.02)


async def test_validity_and_consent_are_enforced_over_the_wire_without_a_reload(fleet: Fleet) -> None:
    await fleet.db.execute(
        "update subject set valid_from = to_timestamp(1000), expires_at = to_timestamp(3000), "
        "consent = jsonb_build_object('purpose', 'door', 'expires_at', '1970-01-01T00:33:20Z') where name = 'P0'"
    )
    now_s = 0.0
    async with fleet.matcher(0, 1, now_s=lambda: now_s), fleet.asker() as asker:
        seen = []
        for time_s in (999.9, 1000.0, 1999.9, 2000.0, 2999.9):
            now_s = time_s
            seen.append("P0" in names(await ask(asker, VECTORS[:1]))[0])
    assert seen == [False, True, True, False, False]  # from valid_from until the consent ends
