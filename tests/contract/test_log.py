"""What every Log promises: order per key, bounded, redelivery of what was not committed, dead letters."""

import asyncio

import pytest

from core.adapters.memory_log import MemoryLog
from core.schema import DeadLetter, decode


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(partitions=4, capacity=8)


async def test_records_of_a_key_come_in_order(log: MemoryLog) -> None:
    async with log.consumer(["frames.north"], "recognize") as consumer:
        for number in range(5):
            await log.publish("frames.north", "gate", bytes([number]))
        records = await consumer.poll(10, 1.0)
    assert [r.value[0] for r in records] == [0, 1, 2, 3, 4]
    assert {r.key for r in records} == {"gate"}
    assert [r.offset for r in records] == [0, 1, 2, 3, 4]


async def test_what_was_published_before_anyone_listened_is_there(log: MemoryLog) -> None:
    await log.publish("frames.north", "gate", b"early")
    async with log.consumer(["frames.*"], "recognize") as consumer:
        assert [r.value for r in await consumer.poll(1, 1.0)] == [b"early"]


async def test_a_pattern_reads_topics_made_later(log: MemoryLog) -> None:
    async with log.consumer(["frames.*"], "recognize") as consumer:
        await log.publish("frames.south", "yard", b"x")
        assert [r.topic for r in await consumer.poll(5, 1.0)] == ["frames.south"]


async def test_uncommitted_records_come_again_to_the_next_consumer(log: MemoryLog) -> None:
    async with log.consumer(["t"], "g") as first:
        for value in (b"a", b"b", b"c"):
            await log.publish("t", "k", value)
        records = await first.poll(3, 1.0)
        await first.commit([records[0], records[2]])  # the middle one is not finished: c must come again too
    async with log.consumer(["t"], "g") as second:
        assert [r.value for r in await second.poll(3, 1.0)] == [b"b", b"c"]


async def test_a_group_that_lost_a_member_finishes_its_work(log: MemoryLog) -> None:
    async with log.consumer(["t"], "g") as stays:
        async with log.consumer(["t"], "g") as leaves:
            for number in range(8):
                await log.publish("t", f"key-{number}", bytes([number]))
            taken = await leaves.poll(8, 0.1)
            mine = await stays.poll(8, 0.1)
            await stays.commit(mine)
            assert taken
            assert mine
        again = await stays.poll(8, 1.0)
    assert sorted(r.value for r in again) == sorted(r.value for r in taken)


async def test_two_groups_each_get_everything(log: MemoryLog) -> None:
    async with log.consumer(["t"], "one") as one, log.consumer(["t"], "two") as two:
        await log.publish("t", "k", b"x")
        assert [r.value for r in await one.poll(5, 1.0)] == [b"x"]
        assert [r.value for r in await two.poll(5, 1.0)] == [b"x"]


async def test_a_full_partition_makes_the_publisher_wait_until_a_commit(log: MemoryLog) -> None:
    async with log.consumer(["t"], "g") as consumer:
        for _ in range(8):
            await log.publish("t", "k", b"x")
        late = asyncio.ensure_future(log.publish("t", "k", b"late"))
        await asyncio.sleep(0)
        assert not late.done()
        records = await consumer.poll(8, 1.0)
        await consumer.commit(records)
        await asyncio.wait_for(late, 1.0)


async def test_a_dead_letter_keeps_value_and_reason_and_blocks_nothing(log: MemoryLog) -> None:
    async with log.consumer(["t"], "g") as consumer, log.consumer(["dead.t"], "person") as reader:
        await log.publish("t", "k", b"poison")
        await log.publish("t", "k", b"good")
        poison, good = await consumer.poll(2, 1.0)
        await consumer.dead_letter(poison, "FrameHeader: 6 bytes")
        await consumer.commit([good])
        letter, value = decode(DeadLetter, (await reader.poll(1, 1.0))[0].value)
    assert (letter.topic, letter.key, letter.reason, bytes(value)) == ("t", "k", "FrameHeader: 6 bytes", b"poison")
    assert log.depth("t") == 0


async def test_poll_returns_nothing_when_the_time_is_up(log: MemoryLog) -> None:
    async with log.consumer(["t"], "g") as consumer:
        assert await consumer.poll(5, 0.01) == []


async def test_drained_waits_for_the_last_commit(log: MemoryLog) -> None:
    async with log.consumer(["t"], "g") as consumer:
        await log.publish("t", "k", b"x")
        waiting = asyncio.ensure_future(log.drained("t"))
        await asyncio.sleep(0)
        assert not waiting.done()
        await consumer.commit(await consumer.poll(1, 1.0))
        await asyncio.wait_for(waiting, 1.0)
