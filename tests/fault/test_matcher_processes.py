"""Real `sightline match` processes on a RabbitMQ of their own: killed, stopped, restarted while everyone asks."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from cli.services.local import LocalServers
from core.adapters.amqp import open_amqp
from core.metrics import Metrics
from core.ports import Database, MatchAnswer
from core.settings import BrokerSettings
from core.types import F32
from matcher.presence import open_replicas
from matcher.remote import RemoteMatcher, open_remote_matcher
from tests.builders.fleet import enrol, erase, people, person
from tests.builders.matcher import MODEL, unit_rows

PEOPLE = 200
VECTORS = unit_rows(PEOPLE + 4, 32)
START_S = 40.0  # to import, connect and load on a busy machine
SIGHTLINE = [sys.executable, "-m", "cli.main"]


@pytest.fixture(scope="module")
def rabbit_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A RabbitMQ for these tests alone: every matcher of a server answers every asker."""
    with LocalServers(tmp_path_factory.mktemp("rabbit")) as servers:
        servers.start("rabbitmq")
        yield servers.url("rabbitmq")


class Matchers:
    """Starts and ends `sightline match` processes."""

    def __init__(self, data_dir: Path, broker_url: str) -> None:
        self._arguments = [*SIGHTLINE, "--data", str(data_dir)]
        self._environment = os.environ | {"SIGHTLINE_BROKER_URL": broker_url, "SIGHTLINE_METRICS__PORT": "0"}
        self._running: list[Process] = []

    async def start(self, shard: int, shards: int) -> tuple[Process, list[dict[str, object]]]:
        """Start a replica; return it, ready, with what it told until then."""
        arguments = [*self._arguments, "match", "--shard", str(shard), "--shards", str(shards), "--json"]
        process = await asyncio.create_subprocess_exec(*arguments, env=self._environment, stdout=PIPE)
        self._running.append(process)
        told: list[dict[str, object]] = []
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            while not told or told[-1]["event"] != "ready":
                line = await process.stdout.readline()
                assert line, f"ended with {await process.wait()}"
                told.append(json.loads(line))
        return process, told

    async def end(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def matchers(db: Database, database_dir: Path, rabbit_url: str) -> AsyncIterator[Matchers]:
    await enrol(db, people(VECTORS[:PEOPLE]))
    matchers = Matchers(database_dir, rabbit_url)
    yield matchers
    await matchers.end()


@contextlib.asynccontextmanager
async def asking(url: str, *, timeout_s: float, metrics: Metrics | None = None) -> AsyncIterator[RemoteMatcher]:
    async with (
        open_amqp(url, BrokerSettings(), name="test") as broker,
        open_remote_matcher(broker, timeout_s=timeout_s, metrics=metrics) as matcher,
    ):
        yield matcher


async def ask(matcher: RemoteMatcher, probes: F32) -> tuple[MatchAnswer, float]:
    started_s = time.monotonic()
    return await matcher.search(probes, model=MODEL, collection="default", k=1), time.monotonic() - started_s


def check(answer: MatchAnswer, rows: np.ndarray) -> None:
    assert answer.shards_missing == 0
    assert [of_probe[0].subject for of_probe in answer.candidates] == [f"P{row}" for row in rows]


async def test_a_killed_replica_costs_no_answer(matchers: Matchers, rabbit_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    replicas = await asyncio.gather(*(matchers.start(shard, 2) for shard in (0, 1, 0, 1)))
    slowest = {"before": 0.0, "after": 0.0}
    async with asking(rabbit_url, timeout_s=10.0) as matcher:
        await ask(matcher, VECTORS[:1])

        async def search(moment: str, seconds: float) -> None:
            rng, end_s = np.random.default_rng(1), time.monotonic() + seconds
            while time.monotonic() < end_s:
                rows = rng.integers(0, PEOPLE, 6)
                answer, took_s = await ask(matcher, VECTORS[rows])
                check(answer, rows)
                slowest[moment] = max(slowest[moment], took_s)

        await asyncio.gather(*(search("before", 1.0) for _ in range(4)))
        going_on = asyncio.gather(*(search("after", 3.0) for _ in range(4)))
        for process, _ in replicas[:2]:
            await asyncio.sleep(0.5)
            process.kill()
        await going_on
    with capsys.disabled():
        sys.stdout.write(
            f"\nmatcher killed: slowest answer {slowest['before']:.3f} s before, {slowest['after']:.3f} s with two kills, none partial\n"
        )


async def test_a_stopped_shard_is_waited_for_then_passed_over_then_back(
    matchers: Matchers, rabbit_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (_, _), (stopped, _) = await asyncio.gather(matchers.start(0, 2), matchers.start(1, 2))
    rows = np.arange(0, PEOPLE, 25)
    async with asking(rabbit_url, timeout_s=1.0) as matcher:
        for _ in range(20):
            answer, _ = await ask(matcher, VECTORS[rows])
        check(answer, rows)
        os.kill(stopped.pid, signal.SIGSTOP)
        timeline = []
        for _ in range(8):
            answer, took_s = await ask(matcher, VECTORS[rows])
            timeline.append(took_s)
            assert answer.shards_missing == 1
            for row, of_probe in zip(rows, answer.candidates, strict=True):
                assert (of_probe[0].subject == f"P{row}") == (row < PEOPLE // 2)
        assert 0.9 < min(timeline[:3]) <= max(timeline[:3]) < 2.5
        assert max(timeline[4:]) < 0.9
        os.kill(stopped.pid, signal.SIGCONT)
        continued_s = time.monotonic()
        async with asyncio.timeout(20):
            while (await ask(matcher, VECTORS[rows]))[0].shards_missing:  # noqa: ASYNC110 - each look is a question
                await asyncio.sleep(0.01)
        back_s = time.monotonic() - continued_s
        answer, _ = await ask(matcher, VECTORS[rows])
        check(answer, rows)
        assert matcher.missing == 0
    with capsys.disabled():
        sys.stdout.write(
            f"\nshard stopped: answers after {', '.join(f'{one:.3f}' for one in timeline)} s; complete {back_s:.3f} s after it went on\n"
        )


async def test_the_number_of_shards_changes_from_two_to_three(matchers: Matchers, rabbit_url: str) -> None:
    old = await asyncio.gather(*(matchers.start(shard, 2) for shard in range(2)))
    async with asking(rabbit_url, timeout_s=10.0) as matcher:
        stop = asyncio.Event()

        async def search() -> int:
            rng, count = np.random.default_rng(1), 0
            while not stop.is_set():
                rows = rng.integers(0, PEOPLE, 6)
                check((await ask(matcher, VECTORS[rows]))[0], rows)
                count += 1
            return count

        searching = asyncio.ensure_future(search())
        await asyncio.gather(*(matchers.start(shard, 3) for shard in range(3)))
        for process, _ in old:
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        await asyncio.sleep(0.5)
        stop.set()
        assert await searching > 20
        answer, _ = await ask(matcher, VECTORS[:1])
        assert answer.references == PEOPLE


async def test_erasures_hold_while_a_replica_is_killed_and_another_slept(matchers: Matchers, db: Database, rabbit_url: str) -> None:
    (_, _), (killed, _), (slept, _) = await asyncio.gather(*(matchers.start(0, 1) for _ in range(3)))
    rows = [person(1000 + number, VECTORS[PEOPLE + number], people=2000) for number in range(4)]
    async with asking(rabbit_url, timeout_s=10.0) as matcher, open_replicas(db) as replicas:
        await replicas.await_visible(await enrol(db, rows), 10.0)
        os.kill(slept.pid, signal.SIGSTOP)
        killed.kill()
        started_s = time.monotonic()
        await replicas.await_visible(await erase(db, rows[0]), 10.0)  # once both count as dead
        assert time.monotonic() - started_s > 3.0
        os.kill(slept.pid, signal.SIGCONT)
        async with asyncio.timeout(10):
            for _ in range(60):
                answer, _ = await ask(matcher, VECTORS[PEOPLE : PEOPLE + 1])
                assert answer.candidates[0][0].subject != rows[0].subject


async def test_a_process_tells_how_it_is(matchers: Matchers, rabbit_url: str) -> None:
    process, told = await matchers.start(1, 2)
    assert [line["event"] for line in told[:-1]] == ["loading"] * (len(told) - 1)
    assert (told[-2]["references"], told[-2]["total"], told[-1]["process"]) == (PEOPLE // 2, PEOPLE // 2, "match")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{told[-1]['metrics_port']}") as session:
        assert (await session.get("/health/ready")).status == 200
        text = await (await session.get("/metrics")).text()
        assert f'sightline_matcher_references{{collection="default",shard="1/2"}} {PEOPLE // 2}.0' in text
        assert f'sightline_matcher_generation{{shard="1/2"}} {PEOPLE}.0' in text
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "text"),
    [
        (["--shard", "2", "--shards", "2"], {}, 2, "--shard 2: with --shards 2 they are counted 0 to 1"),
        (["--shard", "0", "--shards", "1"], {"SIGHTLINE_BROKER_URL": "memory:"}, 3, "broker_url: amqp://user:password@host:port/vhost"),
        (["--shard", "0", "--shards", "1"], {"SIGHTLINE_BROKER_URL": "amqp://guest:guest@127.0.0.1:1/%2F"}, 8, "127.0.0.1:1"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    database_dir: Path, arguments: list[str], environment: dict[str, str], code: int, text: str
) -> None:
    command = [*SIGHTLINE, "--data", str(database_dir), "match", *arguments, "--json"]
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(START_S):
        out, err = await process.communicate()
    last = err.decode().strip().splitlines()[-1]
    assert (process.returncode, out) == (code, b"")
    assert last.startswith("sightline: ")
    assert text in last
