"""What every Log promises: order per key, redelivery of what was not committed, revocation, dead letters. In-process and Kafka."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from core.adapters.memory_log import MemoryLog
from core.ports import Consumer, Log, Partition
from core.schema import DeadLetter, decode
from tests.builders.kafka import TestKafka, collect, open_test_kafka, values

SETTLE_S = 8.0  # a Kafka group with two members agrees within a few heartbeats


@dataclass(frozen=True)
class Bench:
    """A log under test, with a way to make topics, and names of its own."""

    log: Any
    kafka: TestKafka | None

    async def topic(self, name: str) -> str:
        """Make a topic and return its full name."""
        if self.kafka is None:
            return name
        full = self.kafka.name(name)
        await self.kafka.make(full, "dead." + full)
        return full

    def name(self, name: str) -> str:
        return name if self.kafka is None else self.kafka.name(name)

    def group(self) -> str:
        return uuid.uuid4().hex[:8]


@pytest.fixture(params=["memory", "kafka"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield Bench(MemoryLog(partitions=4, capacity=64), None)
        return
    async with open_test_kafka(request.getfixturevalue("kafka_url")) as kafka:
        yield Bench(kafka.log, kafka)


async def test_records_of_a_key_come_in_order(bench: Bench) -> None:
    topic = await bench.topic("frames.north")
    async with bench.log.consumer([topic], bench.group()) as consumer:
        for number in range(5):
            await bench.log.publish(topic, "gate", bytes([number]))
        records = await collect(consumer, 5)
    assert [r.value[0] for r in records] == [0, 1, 2, 3, 4]
    assert {r.key for r in records} == {"gate"}
    assert [r.offset for r in records] == [0, 1, 2, 3, 4]
    assert {r.topic for r in records} == {topic}


async def test_a_key_keeps_its_partition_and_keys_are_spread(bench: Bench) -> None:
    topic = await bench.topic("t")
    async with bench.log.consumer([topic], bench.group()) as consumer:
        for number in range(48):
            await bench.log.publish(topic, f"camera-{number % 16}", b"x")
        records = await collect(consumer, 48)
    partitions = {r.key: {other.partition for other in records if other.key == r.key} for r in records}
    assert all(len(numbers) == 1 for numbers in partitions.values())
    assert len(set.union(*partitions.values())) > 1


async def test_what_was_published_before_anyone_listened_is_there(bench: Bench) -> None:
    topic = await bench.topic("frames.north")
    await bench.log.publish(topic, "gate", b"early")
    async with bench.log.consumer([topic], bench.group()) as consumer:
        assert values(await collect(consumer, 1)) == [b"early"]


async def test_a_pattern_reads_topics_made_later_but_no_dead_letters(bench: Bench) -> None:
    pattern = bench.name("frames")  # frames.<unique>
    async with bench.log.consumer([pattern + "*"], bench.group()) as consumer:
        assert await consumer.poll(5, 0.01) == []
        south = pattern + ".south"
        if bench.kafka is not None:
            await bench.kafka.make(south, "dead." + south)
        await bench.log.publish("dead." + south, "yard", b"dead")
        await bench.log.publish(south, "yard", b"x")
        assert [(r.topic, r.value) for r in await collect(consumer, 1)] == [(south, b"x")]
        assert await consumer.poll(5, 0.3) == []


async def test_uncommitted_records_come_again_to_the_next_consumer(bench: Bench) -> None:
    topic, group = await bench.topic("t"), bench.group()
    async with bench.log.consumer([topic], group) as first:
        for value in (b"a", b"b", b"c"):
            await bench.log.publish(topic, "k", value)
        records = await collect(first, 3)
        await first.commit([records[0], records[2]])  # the middle one is not finished: c must come again too
    async with bench.log.consumer([topic], group) as second:
        assert values(await collect(second, 2)) == [b"b", b"c"]


async def test_what_was_fetched_but_not_handed_out_comes_again(bench: Bench) -> None:
    topic, group = await bench.topic("t"), bench.group()
    for number in range(6):
        await bench.log.publish(topic, "k", bytes([number]))
    async with bench.log.consumer([topic], group) as first:
        await first.commit(await collect(first, 1))
    async with bench.log.consumer([topic], group) as second:
        assert [r.value[0] for r in await collect(second, 5)] == [1, 2, 3, 4, 5]


async def test_a_group_that_lost_a_member_finishes_its_work(bench: Bench) -> None:
    topic, group = await bench.topic("t"), bench.group()
    async with bench.log.consumer([topic], group) as stays:
        async with bench.log.consumer([topic], group) as leaves:
            await _both_own_something(bench.log, topic, stays, leaves)
            for number in range(16):
                await bench.log.publish(topic, f"key-{number}", bytes([number]))
            taken = await leaves.poll(16, 5.0)
            await asyncio.sleep(0)
            mine = await stays.poll(16, 5.0)
            await stays.commit(mine)
            assert taken
            assert mine
        again = await collect(stays, 16 - len(mine))
    assert {r.value for r in again} >= {r.value for r in taken}
    assert {r.value for r in again} | {r.value for r in mine} == {bytes([number]) for number in range(16)}


async def test_a_member_is_told_what_went_to_another_and_its_commits_of_it_change_nothing(bench: Bench) -> None:
    topic, group = await bench.topic("t"), bench.group()
    told: list[Partition] = []

    async def on_revoked(partitions: Sequence[Partition]) -> None:
        told.extend(partitions)

    for number in range(16):
        await bench.log.publish(topic, f"key-{number}", bytes([number]))
    async with bench.log.consumer([topic], group, on_revoked=on_revoked) as first:
        held = await collect(first, 16)
        async with bench.log.consumer([topic], group) as second:
            got = await collect(second, 1)  # Kafka waits a while for what is in flight, then hands it back
            assert told
            assert set(told) < {(topic, number) for number in range(4)}
            await first.commit(held)
            moved = [r for r in held if (r.topic, r.partition) in told]
            got += await collect(second, len(moved) - len(got))
            assert sorted(values(got)) == sorted(values(moved))
        again = await collect(first, len(moved))  # second finished nothing
        assert sorted(values(again)) == sorted(values(moved))


async def test_two_groups_each_get_everything(bench: Bench) -> None:
    topic = await bench.topic("t")
    async with bench.log.consumer([topic], bench.group()) as one, bench.log.consumer([topic], bench.group()) as two:
        await bench.log.publish(topic, "k", b"x")
        assert values(await collect(one, 1)) == [b"x"]
        assert values(await collect(two, 1)) == [b"x"]


async def test_a_dead_letter_keeps_value_headers_and_reason_and_blocks_nothing(bench: Bench) -> None:
    topic, group = await bench.topic("t"), bench.group()
    async with bench.log.consumer([topic], group) as consumer:
        await bench.log.publish(topic, "k", b"poison", headers=(("replay", b"run-1"),))
        await bench.log.publish(topic, "k", b"good")
        poison, good = await collect(consumer, 2)
        assert poison.headers == (("replay", b"run-1"),)
        await consumer.dead_letter(poison, "FrameHeader: 6 bytes")
        await consumer.commit([good])
    async with bench.log.consumer(["dead." + topic], "person" + group) as reader:
        (dead,) = await collect(reader, 1)
    letter, value = decode(DeadLetter, dead.value)
    assert (letter.topic, letter.key, letter.offset, letter.reason) == (topic, "k", poison.offset, "FrameHeader: 6 bytes")
    assert bytes(value) == b"poison"
    assert ("replay", b"run-1") in dead.headers
    async with bench.log.consumer([topic], group) as consumer:
        assert await consumer.poll(5, 1.0) == []


async def test_poll_returns_nothing_when_the_time_is_up(bench: Bench) -> None:
    topic = await bench.topic("t")
    async with bench.log.consumer([topic], bench.group()) as consumer:
        assert await consumer.poll(5, 0.01) == []


async def _both_own_something(log: Log, topic: str, one: Consumer, two: Consumer) -> None:
    """Return once two members of a group each got a record: the partitions are shared out."""
    got: set[int] = set()
    async with asyncio.timeout(SETTLE_S):
        while got != {1, 2}:
            for number in range(16):
                await log.publish(topic, f"warm-{number}", b"warm")
            for which, consumer in ((1, one), (2, two)):
                records = await consumer.poll(16, 0.3)
                await consumer.commit(records)
                if records:
                    got.add(which)
    for _ in range(2):
        for consumer in (one, two):
            while records := await consumer.poll(64, 0.3):
                await consumer.commit(records)


class TestInProcess:
    """What only the in-process log has: a bound on what waits, and an end of the waiting."""

    @pytest.fixture
    def log(self) -> MemoryLog:
        return MemoryLog(partitions=4, capacity=8)

    async def test_a_full_partition_makes_the_publisher_wait_until_a_commit(self, log: MemoryLog) -> None:
        async with log.consumer(["t"], "g") as consumer:
            for _ in range(8):
                await log.publish("t", "k", b"x")
            late = asyncio.ensure_future(log.publish("t", "k", b"late"))
            await asyncio.sleep(0)
            assert not late.done()
            records = await consumer.poll(8, 1.0)
            await consumer.commit(records)
            await asyncio.wait_for(late, 1.0)

    async def test_a_dead_letter_leaves_nothing_behind(self, log: MemoryLog) -> None:
        async with log.consumer(["t"], "g") as consumer:
            await log.publish("t", "k", b"poison")
            await consumer.dead_letter((await consumer.poll(1, 1.0))[0], "FrameHeader: 6 bytes")
        assert log.depth("t") == 0

    async def test_drained_waits_for_the_last_commit(self, log: MemoryLog) -> None:
        async with log.consumer(["t"], "g") as consumer:
            await log.publish("t", "k", b"x")
            waiting = asyncio.ensure_future(log.drained("t"))
            await asyncio.sleep(0)
            assert not waiting.done()
            await consumer.commit(await consumer.poll(1, 1.0))
            await asyncio.wait_for(waiting, 1.0)
