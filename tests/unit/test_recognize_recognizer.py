"""Frames in, sightings out: on painted people, through the real tracker, decisions and messages."""

import asyncio
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from core.adapters.memory_log import MemoryLog
from core.jpeg import decode_jpeg
from core.live import LiveTracks
from core.metrics import Metrics
from core.schema import DeadLetter, Sighting, decode
from core.types import Faces, Image
from recognize.recognizer import Recognizer, Told
from recognize.service import RecognizeService
from tests.builders.painted import PaintedDetector, painted
from tests.builders.recognizers import ALICE, STRANGER, make_recognizer, record_of, shown


@pytest.fixture
def live() -> LiveTracks:
    return LiveTracks()


@pytest.fixture
def recognizer(executor: ThreadPoolExecutor, live: LiveTracks) -> Recognizer:
    return make_recognizer(executor, live)


async def walk(recognizer: Recognizer, person: int, *, frames: int = 30, camera: str = "gate") -> list[Told]:
    told: list[Told] = []
    for n in range(frames):
        told += await recognizer.process([shown(n, painted({person: (20 + 8 * n, 100)}), camera=camera)])
    return told


class UnsureDetector(PaintedDetector):
    """Finds people, but would not swear to it."""

    def scale_of(self, image: Image) -> float:
        return 1.0

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        return [replace(faces, scores=np.full(len(faces), 0.6, np.float32)) for faces in super().detect(images)]


async def test_an_unsure_face_is_told_when_it_is_seen_again_and_timed_by_that_frame(executor: ThreadPoolExecutor) -> None:
    ticks = itertools.count(1000)
    recognizer = make_recognizer(executor, detector=UnsureDetector(), clock=lambda: next(ticks))
    assert await walk(recognizer, STRANGER, frames=1) == []
    ((sighting, _),) = await recognizer.process([shown(1, painted({STRANGER: (28, 100)}))])
    times = sighting.times
    assert (sighting.first_s, times.captured_s) == (0.0, 0.1)
    assert times.captured_s < times.detected_s < times.embedded_s == times.matched_s == times.decided_s


async def test_a_known_person_is_one_sighting_that_ends_closed(recognizer: Recognizer) -> None:
    told = await walk(recognizer, ALICE) + recognizer.finish()
    sightings = [sighting for sighting, _ in told]
    assert {s.sighting_id for s in sightings} == {sightings[0].sighting_id}
    assert {s.subject for s in sightings} == {"alice"}
    assert [s.closed for s in sightings] == [False] * (len(sightings) - 1) + [True]
    revisions = [s.revision for s in sightings]
    assert revisions == sorted(set(revisions))
    last = sightings[-1]
    assert (last.first_s, last.last_s, last.faces, len(last.path)) == (0.0, pytest.approx(2.9), 30, 30)
    assert last.score == pytest.approx(1.0, abs=1e-4)


async def test_the_thumbnail_shows_the_face(recognizer: Recognizer) -> None:
    told = await walk(recognizer, ALICE, frames=3)
    thumbnail = decode_jpeg(told[0][1])
    assert max(thumbnail.shape) <= 256
    assert thumbnail[thumbnail.shape[0] // 2, thumbnail.shape[1] // 2, 2] > 20  # the painted face's blue


async def test_a_stranger_is_never_named(recognizer: Recognizer) -> None:
    told = await walk(recognizer, STRANGER) + recognizer.finish()
    assert {(s.outcome, s.subject, s.reason) for s, _ in told} == {("stranger", None, "below_threshold")}


async def test_the_same_frames_again_make_the_same_ids(executor: ThreadPoolExecutor, live: LiveTracks) -> None:
    first = await walk(make_recognizer(executor, live), ALICE)
    again = await walk(make_recognizer(executor, live), ALICE)
    assert [s.sighting_id for s, _ in first] == [s.sighting_id for s, _ in again]


async def test_one_batch_may_hold_many_cameras_and_several_frames_of_one(recognizer: Recognizer) -> None:
    batch = [shown(n, painted({ALICE: (20 + 8 * n, 100)}), camera=c) for n in range(4) for c in ("gate", "yard")]
    told = await recognizer.process(batch)
    told += recognizer.finish()
    closed = [s for s, _ in told if s.closed]
    assert sorted((s.camera, s.faces) for s in closed) == [("gate", 4), ("yard", 4)]


async def test_a_cut_ends_the_track(recognizer: Recognizer) -> None:
    told: list[Told] = []
    for n in range(6):
        told += await recognizer.process([shown(n, painted({ALICE: (100, 100)}), cut=n == 3)])
    told += recognizer.finish()
    assert len({s.sighting_id for s, _ in told}) == 2


async def test_a_live_track_holds_its_cameras_gate(recognizer: Recognizer, live: LiveTracks) -> None:
    await walk(recognizer, ALICE, frames=5)
    assert live.held("gate", 0.5)
    assert not live.held("gate", 10.0)
    assert not live.held("yard", 0.5)


async def test_a_silent_cameras_tracks_are_closed_by_time(recognizer: Recognizer) -> None:
    await walk(recognizer, ALICE, frames=5)
    assert [recognizer.expire(1000.0 + 0.5 * n) for n in range(7)] == [[]] * 7
    assert [s.closed for s, _ in recognizer.expire(1003.5)] == [True]
    assert recognizer.expire(1004.0) == []


async def test_the_service_survives_poison_and_commits_after_its_sightings(recognizer: Recognizer) -> None:
    log, metrics = MemoryLog(capacity=16), Metrics()
    service = RecognizeService(recognizer=recognizer, log=log, metrics=metrics, batch_frames=4)
    good = [record_of(n, painted({ALICE: (20 + 8 * n, 100)})) for n in range(3)]
    poison = [b"", b"\x05\x00\x00\x00hello", good[0][:-2000], record_of(9, painted({}))[:200]]
    for value in [good[0], *poison, *good[1:]]:
        await log.publish("frames.north", "gate", value)
    async with log.consumer(["dead.frames.north"], "person") as dead, log.consumer(["sightings"], "sightings") as sightings:
        running = asyncio.ensure_future(service.run())
        await asyncio.wait_for(log.drained("frames.north"), 10)
        letters = await dead.poll(10, 1.0)
        first, _ = decode(Sighting, (await sightings.poll(1, 1.0))[0].value)
        running.cancel()
        await asyncio.wait({running})
        rest = await sightings.poll(10, 1.0)
    assert first.subject == "alice"
    assert decode(Sighting, rest[-1].value)[0].closed  # cancelled: open tracks are told, not lost
    reasons = [decode(DeadLetter, letter.value)[0].reason for letter in letters]
    assert len(reasons) == 4
    assert reasons[0] == "FrameHeader: 0 bytes, shorter than the length field"
    assert metrics.frames_finished.labels("gate", "north")._value.get() == 3
    assert metrics.frames_dead.labels("gate", "north")._value.get() == 4
