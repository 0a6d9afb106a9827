"""The recognizer as a service: frames that break it, frames that are another worker's, what is acknowledged and when."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from core.adapters.memory_log import MemoryLog
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Record
from core.schema import DeadLetter, Sighting, decode
from core.topology import REPLAY_HEADER
from core.types import Faces, Image
from recognize.batch import Batch, DecodedAhead
from recognize.frames import read_frames
from recognize.recognizer import Recognizer, Shown
from recognize.service import RecognizeService
from tests.builders.painted import PaintedDetector, painted
from tests.builders.recognizers import ALICE, MovingMatcher, last, make_recognizer, record_of, shown

# --- poison ----------------------------------------------------------------------------------------------------------------------


class FussyDetector(PaintedDetector):
    """Breaks on pictures that hold person 5, as a model or a resize may on a picture that nobody thought of."""

    def __init__(self, *, always: bool = False) -> None:
        self.always = always

    def scale_of(self, image: Image) -> float:
        return 1.0

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        if self.always or any((image[..., 2] == 200).any() for image in images):
            raise IndexError("nobody thought of this")
        return super().detect(images)


async def test_a_frame_that_breaks_the_models_is_put_aside_and_its_neighbours_are_not(executor: ThreadPoolExecutor) -> None:
    recognizer = make_recognizer(executor, detector=FussyDetector())
    broken: dict[str, str] = {}
    batch = [shown(n, painted({ALICE: (20, 100)} if n != 2 else {5: (200, 100)})) for n in range(4)]
    told = await recognizer.process(batch, broken=broken)
    assert broken == {"gate/s/2": "the models can't take this frame: IndexError: nobody thought of this"}
    assert last(told).subject == "alice"
    with pytest.raises(IndexError):
        await make_recognizer(executor, detector=FussyDetector()).process(batch)


async def test_models_that_break_on_every_frame_are_no_frames_fault(executor: ThreadPoolExecutor) -> None:
    recognizer = make_recognizer(executor, detector=FussyDetector(always=True))
    with pytest.raises(IndexError):
        await recognizer.process([shown(0, painted({}))], broken={})


async def test_faces_that_are_not_finite_are_a_broken_frame(executor: ThreadPoolExecutor) -> None:
    class Infinite(PaintedDetector):
        def scale_of(self, image: Image) -> float:
            return 1.0

        def detect(self, images: Sequence[Image]) -> list[Faces]:
            found = super().detect(images)
            factor = np.float32(np.nan if images[0].shape[1] == 640 else 1.0)
            return [Faces(boxes=f.boxes * factor, landmarks=f.landmarks, scores=f.scores) for f in found]

    broken: dict[str, str] = {}
    await make_recognizer(executor, detector=Infinite()).process([shown(0, painted({ALICE: (20, 100)}))], broken=broken)
    assert broken == {"gate/s/0": "the models can't take this frame: ModelError: the detector's boxes are not finite"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"camera": "yard"}, "FrameHeader.camera: 'yard' in a record of 'gate'"),
        ({"frame_id": ""}, "FrameHeader.frame_id: expected 1 to 200 characters, got 0"),
        ({"frame_id": "x" * 5000}, "FrameHeader.frame_id: expected 1 to 200 characters, got 5000"),
        ({"captured_s": float("nan")}, "FrameHeader.captured_s: nan is not a Unix time"),
        ({"published_s": -1.0}, "FrameHeader.published_s: -1.0 is not a Unix time"),
        ({"width_px": 3}, "FrameHeader.width_px: 3x360 px is smaller than 16 px"),
        ({"width_px": 639}, "frame of 639x360 px holds a picture of 640x360 px"),
    ],
)
def test_a_header_that_makes_no_sense_is_named(changes: dict[str, object], reason: str) -> None:
    assert _read(record_of(0, painted({}), **changes)) == reason


def _read(value: bytes, *, headers: tuple[tuple[str, bytes], ...] = ()) -> Shown | str:
    record = Record(topic="frames.north", partition=3, offset=0, key="gate", value=value, headers=headers)
    (result,) = read_frames([record], received_s=7.0, clock=lambda: 8.0)
    return result


def test_a_frame_knows_how_it_came() -> None:
    frame = _read(record_of(4, painted({})))
    assert isinstance(frame, Shown)
    assert (frame.received_s, frame.decoded_s, frame.partition, frame.replayed_s) == (7.0, 8.0, ("frames.north", 3), 0.0)
    replayed = _read(record_of(4, painted({})), headers=((REPLAY_HEADER, b"run"),))
    assert isinstance(replayed, Shown)
    assert replayed.replayed_s == 7.0


# --- the service -----------------------------------------------------------------------------------------------------------------


class Running:
    """A recognize service over an in-process log."""

    def __init__(self, recognizer: Recognizer, log: MemoryLog | None = None) -> None:
        self.log = log or MemoryLog(capacity=64)
        self.metrics = Metrics()
        self.service = RecognizeService(recognizer=recognizer, log=self.log, metrics=self.metrics, batch_frames=4, clock=lambda: 1000.0)
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Running":
        self.task = asyncio.create_task(self.service.run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})

    async def send(self, numbers: Sequence[int], person: int = ALICE, *, poison: bool = False) -> None:
        for n in numbers:
            await self.log.publish("frames.north", "gate", record_of(n, painted({5 if poison else person: (20 + 4 * n, 100)})))


async def _sightings(log: MemoryLog) -> list[Sighting]:
    async with log.consumer(["sightings"], "test") as consumer:
        return [decode(Sighting, record.value)[0] for record in await consumer.poll(1000, 1.0)]


async def test_a_broken_frame_is_dead_lettered_and_the_rest_finished(executor: ThreadPoolExecutor) -> None:
    running = Running(make_recognizer(executor, detector=FussyDetector()))
    async with running, running.log.consumer(["dead.frames.north"], "person") as dead:
        await running.send([0, 1])
        await running.send([2], poison=True)
        await running.send([3])
        await asyncio.wait_for(running.log.drained("frames.north"), 10)
        (letter,) = await dead.poll(9, 1.0)
    assert decode(DeadLetter, letter.value)[0].reason.startswith("the models can't take this frame: IndexError")
    assert running.metrics.frames_finished.labels("gate", "north")._value.get() == 3
    assert running.metrics.frames_dead.labels("gate", "north")._value.get() == 1


async def test_what_a_shard_missed_is_completed_before_a_worker_leaves(executor: ThreadPoolExecutor) -> None:
    matcher = MovingMatcher()
    matcher.missing = 1
    async with Running(make_recognizer(executor, matcher=matcher)) as running:
        await running.send(range(4))
        await asyncio.wait_for(running.log.drained("frames.north"), 10)
        matcher.missing = 0
    told = await _sightings(running.log)
    assert [s.outcome for s in told][-2:] == ["unclear", "subject"]
    assert (told[-1].closed, told[-1].subject) == (True, "alice")
    assert sorted(s.revision for s in told) == [s.revision for s in told]


async def test_a_log_that_refuses_is_told_again_until_it_takes_it(executor: ThreadPoolExecutor) -> None:
    class Refusing(MemoryLog):
        refusals = 2

        async def publish(self, topic: str, key: str, value: bytes) -> None:
            if topic == "sightings" and self.refusals:
                self.refusals -= 1
                raise UnavailableError("no broker")
            await super().publish(topic, key, value)

    async with Running(make_recognizer(executor), Refusing(capacity=64)) as running:
        await running.send(range(4))
        await asyncio.wait_for(running.log.drained("frames.north"), 10)
    assert {s.subject for s in await _sightings(running.log)} == {"alice"}
    assert running.metrics.frames_finished.labels("gate", "north")._value.get() == 4


async def test_every_stage_is_measured(executor: ThreadPoolExecutor) -> None:
    metrics = Metrics()
    running = Running(make_recognizer(executor, metrics=metrics))
    running.service._metrics = running.metrics = metrics
    async with running:
        await running.send(range(4))
        await asyncio.wait_for(running.log.drained("frames.north"), 10)
        await asyncio.sleep(0)
    text = metrics.render().decode()
    for stage in ("publish", "queue", "decode", "wait", "detect", "embed", "match", "decide", "ack", "recognize"):
        assert f'sightline_recognize_stage_seconds_count{{stage="{stage}"}}' in text, stage


async def test_cameras_move_to_a_second_worker_and_back_and_every_frame_is_finished(executor: ThreadPoolExecutor) -> None:
    log = MemoryLog(partitions=2, capacity=64)
    names = [f"cam{n}" for n in range(6)]

    async def send(numbers: Sequence[int]) -> None:
        for n in numbers:
            for name in names:
                image = painted({ALICE: (20 + 4 * n, 100)})
                await log.publish("frames.north", name, record_of(n, image, camera=name, frame_id=f"{name}/s/{n}"))

    first, second = Running(make_recognizer(executor), log), Running(make_recognizer(executor), log)
    async with log.consumer(["sightings"], "test") as sightings:
        told: list[Sighting] = []

        async def collect() -> None:
            while True:
                records = await sightings.poll(1000, 0.1)
                told.extend(decode(Sighting, record.value)[0] for record in records)
                await sightings.commit(records)

        collecting = asyncio.create_task(collect())
        async with first:
            await send(range(5))
            async with second:
                await send(range(5, 10))
                await asyncio.wait_for(log.drained("frames.north"), 20)
            await send(range(10, 15))
            await asyncio.wait_for(log.drained("frames.north"), 20)
        await asyncio.wait_for(log.drained("sightings"), 10)
        collecting.cancel()
    newest = {s.sighting_id: s for s in sorted(told, key=lambda s: s.revision)}
    assert all(s.closed for s in newest.values())
    assert {(s.camera, s.subject) for s in newest.values()} == {(name, "alice") for name in names}
    for name in names:  # no gap in time without somebody who saw her
        ours = sorted((s.first_s, s.last_s) for s in newest.values() if s.camera == name)
        assert ours[0][0] == 0.0
        assert max(end for _, end in ours) == pytest.approx(1.4)


async def test_what_was_decoded_while_the_recognizer_was_busy_is_looked_at_together_and_bounded() -> None:
    ahead = DecodedAhead(4)
    single = [_batch(n) for n in range(6)]
    for one in (*single[:3], Batch(), single[3]):  # an idle poll in between adds nothing
        await ahead.put(one)
    late = asyncio.create_task(ahead.put(single[4]))
    await asyncio.sleep(0)
    assert not late.done()
    taken = await ahead.take()
    assert [frame.shown.frame.frame_id for frame in taken.frames] == [f"gate/s/{n}" for n in range(4)]
    await late
    await ahead.put(single[5])
    assert len((await ahead.take()).frames) == 2
    await ahead.put(Batch())
    assert (await ahead.take()).frames == []  # an idle recognizer wakes up


def _batch(number: int) -> Batch:
    record = Record(topic="frames.north", partition=0, offset=number, key="gate", value=b"")
    return Batch.of([record], [shown(number, painted({}))], [0])
