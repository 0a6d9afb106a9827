"""Frames on their way to a log that comes and goes: none is lost, a camera's order holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from core.carried import open_jpeg
from core.metrics import Metrics
from core.vault import Vault
from ingest.capture import SystemClock
from ingest.spooling import KEEP_S, SPILL_S, Bounds, SpoolingPublisher
from tests.builders.frames import SwitchedLog, gated

VAULT = Vault([b"k" * 32])
PLENTY = Bounds(disk_bytes=1 << 30)


class FixedClock(SystemClock):
    unix_s = 1000.0

    def now_s(self) -> float:
        return self.unix_s


class Bench:
    """A publisher over a switched log."""

    def __init__(self, log: SwitchedLog, publisher: SpoolingPublisher, metrics: Metrics, clock: FixedClock) -> None:
        self.log, self.publisher, self.metrics, self.clock = log, publisher, metrics, clock
        self.acknowledged = 0
        self.task: asyncio.Task[None] | None = None

    async def accept(self, *numbers: int, camera: str = "door", size: int = 100) -> None:
        for number in numbers:
            await self.publisher.accept(gated(number, camera=camera, size=size, captured_s=self.clock.unix_s), self._note)

    def _note(self) -> None:
        self.acknowledged += 1

    async def drained(self) -> None:
        async with asyncio.timeout(20):
            await self.publisher.drained()

    async def on_disk(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.publisher.frames < count:  # noqa: ASYNC110 - watches another thread
                await asyncio.sleep(0.01)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"sightline_ingest_{name}", labels) or 0.0


@asynccontextmanager
async def bench(root: Path, log: SwitchedLog, *, bounds: Bounds = PLENTY, clock: FixedClock | None = None) -> AsyncIterator[Bench]:
    metrics, clock = Metrics(), clock or FixedClock()
    publisher = SpoolingPublisher(log, root, bounds, vault=VAULT, metrics=metrics, clock=clock)  # type: ignore[arg-type]
    await publisher.open()
    made = Bench(log, publisher, metrics, clock)
    made.task = asyncio.create_task(publisher.run())
    try:
        yield made
    finally:
        made.task.cancel()
        await asyncio.wait({made.task})
        if publisher._spools:
            await publisher.close()
        if not made.task.cancelled() and (error := made.task.exception()):
            raise error


def files(root: Path) -> list[Path]:
    return list(root.glob("*/*.spool"))


async def gone(folder: Path) -> None:
    """Wait until the spool's files are removed: a thread does it, after the last acknowledgement."""
    async with asyncio.timeout(5.0):
        while files(folder):  # noqa: ASYNC110 - watches another thread
            await asyncio.sleep(0.01)


async def test_a_log_that_answers_gets_frames_in_order_and_the_disk_none(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog()) as b:
        await b.accept(*range(20))
        await b.accept(*range(5), camera="yard")
        await b.drained()
    assert b.log.ids() == list(range(20))
    assert b.log.ids("yard") == list(range(5))
    assert (b.acknowledged, b.value("frames_published_total", camera="door", region="west")) == (25, 20)
    assert b.value("frames_spooled_total", camera="door", region="west") == 0
    assert {header.published_s for header in b.log.got["door"]} == {1000.0}
    assert files(tmp_path) == []


async def test_an_outage_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog()) as b:
        await b.accept(0, 1)
        await b.drained()
        b.log.refuses = True
        await b.accept(*range(2, 30))
        await b.on_disk(28)
        assert b.publisher.waiting("door") == 28
        assert b.value("spool_frames") == 28
        b.log.refuses = False
        await b.accept(30, 31)
        await b.drained()
        await b.accept(32)
        await b.drained()
        await gone(tmp_path)
    assert b.log.ids() == list(range(33))
    opened = [open_jpeg(VAULT, gated(number).header, memoryview(jpeg)) for number, jpeg in enumerate(b.log.jpegs)]
    assert opened == [bytes([number]) * 100 for number in range(33)]
    assert not {bytes([number]) * 100 for number in range(33)} & set(b.log.jpegs)
    assert b.acknowledged == 33
    assert b.value("frames_drained_total", camera="door", region="west") >= 28
    assert b.value("publish_failures_total", region="west") >= 1
    assert files(tmp_path) == []


async def test_a_log_that_hangs_does_not_hold_up_a_camera_and_its_frames_are_on_disk_in_time(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog(patience_s=30.0)) as b:
        b.log.up.clear()
        async with asyncio.timeout(SPILL_S / 2):
            await b.accept(*range(10))
        await b.on_disk(10)
        assert b.log.attempts == 1
        b.log.up.set()
        await b.drained()
    assert b.log.ids() == list(range(10))
    assert b.log.attempts == 10


async def test_one_region_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    class NoSuchTopic(SwitchedLog):
        async def publish(self, topic: str, key: str, value: bytes) -> None:
            self.refuses = key == "bad"
            await super().publish(topic, key, value)

    async with bench(tmp_path, NoSuchTopic()) as b:
        for number in range(5):
            await b.accept(number, camera="bad")
            await b.accept(number)
        async with asyncio.timeout(5):
            while b.publisher.waiting("door"):  # noqa: ASYNC110 - the log's side
                await asyncio.sleep(0.01)
    assert b.log.ids() == list(range(5))
    assert b.log.ids("bad") == []


async def test_what_is_left_at_the_end_comes_first_at_the_next_start(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog()) as b:
        b.log.refuses = True
        await b.accept(*range(6))
    assert len(files(tmp_path)) == 1
    async with bench(tmp_path, SwitchedLog()) as b:
        await b.accept(100, 101)
        await b.drained()
        await gone(tmp_path)
    assert b.log.ids() == [0, 1, 2, 3, 4, 5, 100, 101]
    assert files(tmp_path) == []


async def test_a_full_spool_and_a_full_memory_make_the_camera_wait_and_lose_nothing(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, SwitchedLog(), bounds=Bounds(disk_bytes=1000, memory_bytes=1000)) as b:
        b.log.refuses = True
        task = asyncio.create_task(b.accept(*range(40)))
        await b.on_disk(2)
        await asyncio.sleep(0.1)
        waiting = b.publisher.waiting("door")
        assert waiting < 20
        assert not task.done()
        b.log.refuses = False
        await task
        await b.drained()
    assert b.log.ids() == list(range(40))


async def test_without_a_spool_frames_wait_in_memory(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog(), bounds=Bounds(disk_bytes=0)) as b:
        b.log.refuses = True
        await b.accept(*range(5))
        await asyncio.sleep(0.05)
        b.log.refuses = False
        await b.drained()
    assert b.log.ids() == list(range(5))


async def test_frames_that_found_no_room_at_the_end_are_counted(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog(), bounds=Bounds(disk_bytes=0)) as b:
        b.log.refuses = True
        await b.accept(*range(5))
    assert b.value("frames_lost_total", camera="door", region="west", reason="full") == 5


async def test_old_frames_are_forgotten_and_counted(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog()) as b:
        b.log.refuses = True
        await b.accept(*range(4))
    clock = FixedClock()
    clock.unix_s += KEEP_S + 1
    async with bench(tmp_path, SwitchedLog(), clock=clock) as b:
        await b.accept(9)
        await b.drained()
        await gone(tmp_path)
    assert b.log.ids() == [9]
    assert b.value("frames_lost_total", camera="door", region="west", reason="old") == 4
    assert files(tmp_path) == []


async def test_frames_that_the_log_will_never_take_are_counted_and_block_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog()) as b:
        b.log.poison = {"door/s/1"}
        await b.accept(0, 1, 2)
        await b.drained()
    assert b.log.ids() == [0, 2]
    assert b.value("frames_lost_total", camera="door", region="west", reason="refused") == 1


async def test_a_frame_that_rots_on_disk_is_counted_and_blocks_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog()) as b:
        b.log.refuses = True
        await b.accept(0, 1, 2)
        await b.on_disk(3)
        (path,) = files(tmp_path)
        data = bytearray(path.read_bytes())
        data[-50] ^= 1
        path.write_bytes(data)
        b.log.refuses = False
        await b.drained()
    assert b.log.ids() == [0, 1]
    assert b.value("frames_lost_total", camera="door", region="west", reason="damaged") == 1


async def test_the_spool_of_a_dead_process_is_drained_by_a_living_one(tmp_path: Path) -> None:
    async with bench(tmp_path, SwitchedLog()) as stays, bench(tmp_path, SwitchedLog()) as dies:
        dies.log.refuses = True
        await dies.accept(0, 1, camera="yard")
        assert dies.task is not None
        dies.task.cancel()
        await asyncio.wait({dies.task})
        await dies.publisher.close()
        await stays.publisher._adopt()
        await stays.drained()
        await gone(tmp_path)
        assert stays.log.ids("yard") == [0, 1]
    assert files(tmp_path) == []
