"""A consumer group in trouble on a real Kafka: members killed, added and removed, and stuck, while records keep coming."""

import asyncio
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from core.adapters.kafka_config import SESSION_S
from core.adapters.kafka_log import KafkaLog, open_kafka_log
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Partition, Record
from core.settings import KafkaSettings
from tests.builders.kafka import TestKafka, collect, open_test_kafka, values

ROOT = Path(__file__).parents[2]
KEYS = [f"camera-{number}" for number in range(24)]
SOON_S = 60.0

HOLDER = """
import asyncio, sys
from core.adapters.kafka_log import open_kafka_log
from core.settings import KafkaSettings

async def main(url, topic, group):
    async with open_kafka_log(url, KafkaSettings()) as log, log.consumer([topic], group) as consumer:
        got = []
        while len(got) < 20:
            got += await consumer.poll(20 - len(got), 1.0)
        await consumer.commit(got[:5] + got[10:])
        await asyncio.sleep(1)
        print("holding", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def kafka(kafka_url: str) -> AsyncIterator[TestKafka]:
    async with open_test_kafka(kafka_url) as kafka:
        yield kafka


async def test_what_a_killed_process_held_comes_again_and_what_it_finished_does_not(kafka: TestKafka) -> None:
    topic, group = kafka.name("t"), kafka.name("g")
    await kafka.make(topic, partitions=1)
    for number in range(30):
        await kafka.log.publish(topic, "k", bytes([number]))
    args = [sys.executable, "-c", HOLDER, kafka.url, topic, group]
    holder = await asyncio.create_subprocess_exec(*args, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert holder.stdout is not None
        async with asyncio.timeout(SOON_S):
            assert await holder.stdout.readline() == b"holding\n"
        os.kill(holder.pid, signal.SIGKILL)
        began_s = asyncio.get_running_loop().time()
        async with kafka.log.consumer([topic], group) as consumer:
            records = await collect(consumer, 25, timeout_s=SOON_S)
            took_s = asyncio.get_running_loop().time() - began_s
    finally:
        with suppress(ProcessLookupError):
            holder.kill()
        await holder.wait()
    assert [r.value[0] for r in records] == list(range(5, 30))
    assert took_s < SESSION_S + 6
    print(f"taken over after {took_s:.1f} s")  # noqa: T201 - a figure that people read


class Worker:
    """A member that finishes what it gets, out of order and with some delay, and writes down what it saw."""

    def __init__(self, name: str, log: KafkaLog, topic: str, group: str) -> None:
        self.name, self.seen, self.revoked = name, list[Record](), list[Partition]()
        self._log, self._topic, self._group = log, topic, group
        self.stop = asyncio.Event()

    async def _on_revoked(self, partitions: Sequence[Partition]) -> None:
        self.revoked.extend(partitions)

    async def run(self) -> None:
        held: list[Record] = []
        async with self._log.consumer([self._topic], self._group, on_revoked=self._on_revoked) as consumer:
            while not self.stop.is_set():
                got = await consumer.poll(16, 0.2)
                self.seen += got
                held = [*held[-8:], *got] if got else []
                await consumer.commit([*held[::2], *held[1::2]])


async def test_members_come_and_go_while_records_flow(kafka: TestKafka) -> None:
    """Every record is finished at least once, in order per key for each owner, and in the end all offsets are committed."""
    topic, group = kafka.name("t"), kafka.name("g")
    await kafka.make(topic, partitions=12)
    published: dict[str, int] = dict.fromkeys(KEYS, 0)
    ended = asyncio.Event()

    async def publish() -> None:
        while not ended.is_set():
            for key in KEYS:
                await kafka.log.publish(topic, key, b"%06d" % published[key])
                published[key] += 1
            await asyncio.sleep(0.05)

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        logs = [await stack.enter_async_context(open_kafka_log(kafka.url, KafkaSettings())) for _ in range(3)]
        workers = [Worker(f"w{number}", log, topic, group) for number, log in enumerate(logs)]
        tasks.create_task(publish())
        running = []
        for worker in workers:
            running.append(tasks.create_task(worker.run()))
            await asyncio.sleep(3)
        for worker, task in zip(workers[:2], running, strict=False):
            worker.stop.set()
            await task
            await asyncio.sleep(2)
        ended.set()
        last = workers[2]
        async with asyncio.timeout(SOON_S):
            while await lag(kafka, topic, group):  # noqa: ASYNC110 - the broker tells nobody that all is committed
                await asyncio.sleep(0.3)
        last.stop.set()
    seen = {(r.key, int(r.value)) for worker in workers for r in worker.seen}
    assert seen == {(key, number) for key, count in published.items() for number in range(count)}
    assert all(worker.seen for worker in workers)
    assert workers[0].revoked
    for worker in workers:
        assert_in_order(worker)
    copies = sum(len(worker.seen) for worker in workers) - len(seen)
    print(f"{len(seen)} records, {copies} of them twice")  # noqa: T201
    assert copies < len(seen) / 4


async def lag(kafka: TestKafka, topic: str, group: str) -> int:
    (state,) = await asyncio.to_thread(kafka.admin.states, [topic], [group])
    return state.lag.get(group, state.records)


def assert_in_order(worker: Worker) -> None:
    """While a member owns a partition its records come in order; after it lost and regained it, from the committed one on."""
    last: dict[tuple[str, int], int] = {}
    steps_back: dict[Partition, int] = defaultdict(int)
    for record in worker.seen:
        where = (record.topic, record.partition)
        if record.offset <= last.get(where, -1):
            steps_back[where] += 1
        last[where] = record.offset
    for where, count in steps_back.items():
        assert count <= worker.revoked.count(where), f"{worker.name} got {where} backwards"


async def test_what_is_in_flight_is_finished_before_a_partition_moves(kafka: TestKafka) -> None:
    """The handover waits for a worker in mid-batch, so that nothing is done twice."""
    topic, group = kafka.name("t"), kafka.name("g")
    await kafka.make(topic, partitions=2)
    for number in range(16):
        await kafka.log.publish(topic, KEYS[number], bytes([number]))
    async with kafka.log.consumer([topic], group) as first:
        held = await collect(first, 16)

        async def finish_later() -> None:
            await asyncio.sleep(1.0)
            await first.commit(held)

        async with asyncio.TaskGroup() as tasks, kafka.log.consumer([topic], group) as second:
            tasks.create_task(finish_later())
            for _ in range(12):
                assert await second.poll(16, 0.5) == []


async def test_a_stuck_worker_stays_a_member_with_bounded_memory_and_misses_nothing(kafka: TestKafka) -> None:
    topic, group = kafka.name("t"), kafka.name("g")
    await kafka.make(topic, partitions=3)
    metrics = Metrics()
    async with open_kafka_log(kafka.url, KafkaSettings(), metrics=metrics) as log:
        await asyncio.gather(*(log.publish(topic, KEYS[number % 24], b"%06d" % number + bytes(20_000)) for number in range(1500)))
        async with log.consumer([topic], group) as consumer:
            first = await collect(consumer, 1)
            await asyncio.sleep(SESSION_S + 4)
            text = metrics.render().decode()
            assert sample(text, "sightline_log_paused_partitions") == 3
            assert 0 < sample(text, "sightline_log_buffered_records") <= 128
            assert sample(text, 'event="lost"') == 0
            assert sample(text, "sightline_log_lag_records") > 1000
            rest = first + await collect(consumer, 1499, timeout_s=SOON_S)
            await consumer.commit(rest)
    assert sorted(int(r.value[:6]) for r in rest) == list(range(1500))
    for key in KEYS:
        numbers = [int(r.value[:6]) for r in rest if r.key == key]
        assert numbers == sorted(numbers)


def sample(text: str, part: str) -> float:
    """Return the sum of the samples whose line holds a text."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if part in line and not line.startswith("#"))


async def test_one_busy_partition_does_not_starve_the_others(kafka: TestKafka) -> None:
    topic, group = kafka.name("t"), kafka.name("g")
    await kafka.make(topic, partitions=8)
    await asyncio.gather(*(kafka.log.publish(topic, "busy", b"x" * 10_000) for _ in range(1000)))
    async with kafka.log.consumer([topic], group) as consumer:
        busy = (await collect(consumer, 64))[0].partition
        for key in KEYS:
            await kafka.log.publish(topic, key, b"live")
        others = 0
        for _ in range(60):  # 60 batches of 8 are half of the backlog
            others += sum(r.value == b"live" for r in await consumer.poll(8, 1.0))
        elsewhere = len(KEYS) - others
    print(f"live records that waited behind the backlog: {elsewhere} (partition {busy})")  # noqa: T201
    assert others >= 12


async def test_a_topic_that_is_made_anew_is_read_from_its_beginning(kafka: TestKafka) -> None:
    topic, group = kafka.name("t"), kafka.name("g")
    await kafka.make(topic, partitions=1)
    async with kafka.log.consumer([topic], group) as consumer:
        for number in range(5):
            await kafka.log.publish(topic, "k", bytes([number]))
        await consumer.commit(await collect(consumer, 5))
        await asyncio.to_thread(kafka.admin.delete, [topic])
        await asyncio.sleep(1)
        await kafka.make(topic, partitions=1)
        async with asyncio.timeout(SOON_S):
            for value in (b"a", b"b"):
                while True:
                    with suppress(Exception):
                        await kafka.log.publish(topic, "k", value)
                        break
        records = await collect(consumer, 2, timeout_s=SOON_S)
        await consumer.commit(records)
    assert set(values(records)) == {b"a", b"b"}


async def test_a_producer_beyond_use_is_made_anew_under_load(kafka: TestKafka) -> None:
    """No broker can be made to send a fatal error on demand, so the reporter is told of one as librdkafka would tell it."""
    topic = kafka.name("t")
    await kafka.make(topic)
    accepted: list[int] = []

    async def publish(number: int) -> None:
        with suppress(UnavailableError):
            await kafka.log.publish(topic, KEYS[number % 24], b"%06d" % number)
            accepted.append(number)

    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as tasks:
        for number in range(600):
            tasks.create_task(publish(number))
            if number in (200, 400):
                kafka.log._reporter.fatal = True
            await asyncio.sleep(0.002)
    await publish(600)
    assert accepted[-1] == 600
    missing = set(accepted)  # a publication that was refused may have been delivered as well: the topic may hold more than these
    async with asyncio.timeout(SOON_S), kafka.log.consumer([topic], kafka.name("g")) as consumer:
        while missing:
            missing -= {int(record.value) for record in await consumer.poll(64, 1.0)}
    print(f"{601 - len(accepted)} of 601 publications were refused, none hung")  # noqa: T201
