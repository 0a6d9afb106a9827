"""A recognizer among servers that come and go: painted people, real tracker, decisions and service."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import UnavailableError
from core.live import LiveTracks
from core.metrics import Metrics
from core.ports import MatchAnswer
from core.schema import Sighting
from core.types import F32
from recognize.incomplete import MAX_INCOMPLETE, IncompleteSightings
from recognize.outcome import next_revision
from recognize.patience import Patience
from recognize.recognizer import Told
from tests.builders.painted import ListMatcher, painted
from tests.builders.recognizers import ALICE, STRANGER, MovingMatcher, last, make_recognizer, shown, walk

# --- servers away ----------------------------------------------------------------------------------------------------------------


async def test_a_matcher_that_is_away_is_asked_until_it_answers_and_nothing_is_looked_at_twice(executor: ThreadPoolExecutor) -> None:
    matcher, metrics = MovingMatcher(), Metrics()
    matcher.failures = 2
    recognizer = make_recognizer(executor, matcher=matcher, metrics=metrics)
    told = await walk(recognizer, ALICE, [0])
    assert last(told).subject == "alice"
    assert matcher.asked == [1, 1, 1]
    assert metrics.faces_detected.labels("gate", "north")._value.get() == 1
    assert metrics.matcher_waited._value.get() == pytest.approx(0.3)  # 0.1 + 0.2
    assert metrics.matcher_waiting._value.get() == 0


async def test_patience_asks_ever_more_seldom_and_can_be_cancelled() -> None:
    pauses: list[float] = []
    states: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise asyncio.CancelledError

    async def fail() -> None:
        raise UnavailableError("away")

    with pytest.raises(asyncio.CancelledError):
        await Patience("a test", waiting=states.append, sleep=sleep).until_done(fail)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert states == [1, 0]


# --- a shard away ----------------------------------------------------------------------------------------------------------------


async def test_who_can_not_be_looked_up_everywhere_is_unclear_and_completed_when_the_shard_is_back(executor: ThreadPoolExecutor) -> None:
    matcher = MovingMatcher()
    matcher.missing = 1
    recognizer = make_recognizer(executor, matcher=matcher)
    told = await walk(recognizer, ALICE, range(5))
    assert {(s.outcome, s.reason, s.shards_missing) for s, _ in told} == {("unclear", "shards_missing", 1)}
    assert await recognizer.complete() == []
    assert recognizer.incomplete == 1
    matcher.missing = 0
    ((completed, thumbnail),) = await recognizer.complete()
    assert (completed.subject, completed.shards_missing, completed.closed) == ("alice", 0, False)
    assert completed.revision > last(told).revision
    assert thumbnail == told[-1][1]
    assert recognizer.incomplete == 0
    (end,) = recognizer.finish()
    assert (end[0].subject, end[0].closed) == ("alice", True)
    assert end[0].revision > completed.revision


async def test_a_track_that_has_ended_is_completed_too(executor: ThreadPoolExecutor) -> None:
    matcher = MovingMatcher()
    matcher.missing = 1
    recognizer = make_recognizer(executor, matcher=matcher)
    await walk(recognizer, ALICE, range(5))
    await walk(recognizer, STRANGER, range(5), camera="yard")
    ended = recognizer.finish()
    assert [s.outcome for s, _ in ended] == ["unclear", "unclear"]
    matcher.missing = 0
    completed = {s.camera: s for s, _ in await recognizer.complete()}
    assert (completed["gate"].subject, completed["yard"].outcome, completed["yard"].reason) == ("alice", "stranger", "below_threshold")
    for before, _ in ended:
        after = completed[before.camera]
        assert after.closed
        assert after.revision > before.revision
        assert (after.first_s, after.last_s, after.path) == (before.first_s, before.last_s, before.path)


async def test_a_name_is_given_by_the_shards_that_answer(executor: ThreadPoolExecutor) -> None:
    class OneOfTwo(ListMatcher):
        async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
            found = await super().search(probes, model=model, collection=collection, k=k)
            return MatchAnswer(candidates=found.candidates, generation=1, references=found.references, shards_missing=1)

    recognizer = make_recognizer(executor, matcher=OneOfTwo({ALICE: "alice"}))
    told = await walk(recognizer, ALICE, range(2))
    assert (last(told).subject, last(told).shards_missing) == ("alice", 1)
    assert recognizer.incomplete == 1  # a better one may be where nobody answered


async def test_nobody_who_was_named_loses_the_name_because_its_shard_is_away(executor: ThreadPoolExecutor) -> None:
    matcher = MovingMatcher()
    recognizer = make_recognizer(executor, matcher=matcher)
    await walk(recognizer, ALICE, range(3))
    matcher.missing = 1
    told = await walk(recognizer, ALICE, range(3, 60)) + recognizer.finish()
    assert {s.subject for s, _ in told} == {"alice"}


async def test_only_one_question_is_asked_while_a_shard_is_still_away(executor: ThreadPoolExecutor) -> None:
    matcher = MovingMatcher()
    matcher.missing = 1
    recognizer = make_recognizer(executor, matcher=matcher)
    for n in range(70):
        await recognizer.process([shown(0, painted({ALICE: (20, 100)}), camera=f"c{n}")])
    matcher.asked.clear()
    assert await recognizer.complete() == []
    assert matcher.asked == [64]
    matcher.missing = 0
    assert len(await recognizer.complete()) == 70


async def test_incomplete_sightings_are_bounded_oldest_first(executor: ThreadPoolExecutor) -> None:
    matcher = MovingMatcher()
    matcher.missing = 1
    recognizer = make_recognizer(executor, matcher=matcher)
    await walk(recognizer, ALICE, [0])
    (item,) = recognizer._asker.incomplete.take_turns(1)
    kept = IncompleteSightings(capacity=2)
    items = [
        type(item)(**{f: getattr(item, f) for f in ("story", "probe", "agreement", "quality", "height_px")}, told=t)
        for t in _named(item.told)
    ]
    assert [kept.add(one) for one in items] == [0, 0, 1]
    assert [one.told.sighting_id for one in kept.take_turns(5)] == ["s1", "s2"]
    assert MAX_INCOMPLETE >= 1000


def _named(told: Sighting) -> list[Sighting]:
    import msgspec

    return [msgspec.structs.replace(told, sighting_id=f"s{n}") for n in range(3)]


# --- revisions -------------------------------------------------------------------------------------------------------------------


def test_the_end_of_a_track_and_a_full_answer_are_above_what_they_follow() -> None:
    steps = [(False, False), (False, True), (True, False), (True, True)]
    at_once = [next_revision(0, lasted_s=2.5, closed=closed, complete=complete) for closed, complete in steps]
    assert at_once == sorted(set(at_once))
    assert next_revision(0, lasted_s=2.501, closed=False, complete=False) > at_once[-1]
    assert next_revision(50_000, lasted_s=2.5, closed=True, complete=True) == 50_001
    week_s, now_s = 7 * 86400.0, 1.8e9
    assert next_revision(0, lasted_s=week_s, closed=True, complete=True, replayed_s=now_s) < 1 << 53


async def test_a_replay_is_above_what_was_found_before_and_a_later_one_above_it(executor: ThreadPoolExecutor) -> None:
    original = await walk(make_recognizer(executor), ALICE, range(6))
    again = make_recognizer(executor)
    first = await walk(again, ALICE, range(6), replayed_s=1_700_000_000.0) + again.finish()
    later = make_recognizer(executor)
    second = await walk(later, ALICE, range(6), replayed_s=1_700_000_002.0) + later.finish()
    assert last(original).sighting_id == last(first).sighting_id == last(second).sighting_id
    assert last(original).revision < last(first).revision < last(second).revision


# --- time ------------------------------------------------------------------------------------------------------------------------


async def test_frames_of_another_time_are_tracked_on_their_own_and_none_is_lost(executor: ThreadPoolExecutor) -> None:
    """A camera moved: its new ingester is live while the old one's spool drains, both in order."""
    metrics = Metrics()
    recognizer = make_recognizer(executor, metrics=metrics)
    live = [shown(n, painted({ALICE: (100 + n, 100)}), captured_s=100 + n * 0.1, frame_id=f"gate/new/{n}") for n in range(20)]
    spooled = [shown(n, painted({ALICE: (300 + n, 150)}), captured_s=60 + n * 0.1, frame_id=f"gate/old/{n}") for n in range(20)]
    told: list[Told] = []
    for pair in zip(live, spooled, strict=True):
        told += await recognizer.process(pair)
    ended = [s for s, _ in told + recognizer.finish() if s.closed]
    assert sorted((s.faces, s.first_s, s.subject) for s in ended) == [(20, 60.0, "alice"), (20, 100.0, "alice")]
    assert metrics.time_lines.labels("gate", "north")._value.get() == 1


async def test_two_ingesters_of_one_camera_for_a_moment_make_one_track(executor: ThreadPoolExecutor) -> None:
    recognizer = make_recognizer(executor)
    told: list[Told] = []
    for n in range(10):
        for who, late_s in (("a", 0.0), ("b", -0.13)):
            frame = shown(n, painted({ALICE: (100 + 2 * n, 100)}), captured_s=50 + n * 0.1 + late_s, frame_id=f"gate/{who}/{n}")
            told += await recognizer.process([frame])
    told += recognizer.finish()
    assert len({s.sighting_id for s, _ in told}) == 1
    assert last(told).faces == 20


async def test_a_frame_that_comes_again_is_not_looked_at_again(executor: ThreadPoolExecutor) -> None:
    metrics = Metrics()
    recognizer = make_recognizer(executor, metrics=metrics)
    await walk(recognizer, ALICE, [0, 1, 2, 3, 2, 3, 4])
    (end,) = recognizer.finish()
    assert end[0].faces == 5
    assert metrics.frames_repeated.labels("gate", "north")._value.get() == 2


async def test_lines_of_a_camera_are_bounded_and_what_is_displaced_is_told(executor: ThreadPoolExecutor) -> None:
    recognizer = make_recognizer(executor)
    told: list[Told] = []
    for n in range(6):
        told += await walk(recognizer, ALICE, [0], captured_s=1000.0 - 100 * n, frame_id=f"gate/{n}/0")
    assert [s.closed for s, _ in told].count(True) == 2
    assert len(recognizer.finish()) == 4


async def test_an_old_line_does_not_shorten_the_hold_of_the_present(executor: ThreadPoolExecutor) -> None:
    live = LiveTracks()
    recognizer = make_recognizer(executor, live)
    await walk(recognizer, ALICE, [0], captured_s=500.0, frame_id="gate/new/0")
    await walk(recognizer, ALICE, [0], captured_s=100.0, frame_id="gate/old/0")
    assert live.held("gate", 501.0)


async def test_silence_ends_a_track_and_frames_that_come_late_continue_it(executor: ThreadPoolExecutor) -> None:
    """Kafka was away for 20 s: what was spooled meanwhile goes on where the last frame ended."""
    recognizer = make_recognizer(executor)
    told = await walk(recognizer, ALICE, range(10))
    told += [one for n in range(40) for one in recognizer.expire(1000.0 + n / 2)]
    assert [s.closed for s, _ in told][-2:] == [False, True]
    ended = last(told)
    told = await walk(recognizer, ALICE, range(10, 20))
    assert (told[0][0].sighting_id, told[0][0].closed) == (ended.sighting_id, False)
    assert told[0][0].revision > ended.revision
    (end,) = recognizer.finish()
    assert (end[0].faces, end[0].closed) == (20, True)


async def test_time_in_which_the_worker_was_stuck_is_no_silence(executor: ThreadPoolExecutor) -> None:
    recognizer = make_recognizer(executor)
    await walk(recognizer, ALICE, range(3))
    assert recognizer.expire(1000.5) == []
    assert recognizer.expire(1030.0) == []  # it waited for a matcher for half a minute
    assert recognizer.expire(1030.5) == []


async def test_a_silent_camera_is_forgotten_after_a_while(executor: ThreadPoolExecutor) -> None:
    recognizer = make_recognizer(executor)
    await walk(recognizer, ALICE, range(3))
    told = [one for n in range(125) for one in recognizer.expire(1000.0 + n / 2)]
    assert [s.closed for s, _ in told] == [True]
    assert recognizer.finish() == []
    assert recognizer._cameras == {}


# --- partitions ------------------------------------------------------------------------------------------------------------------


async def test_cameras_whose_partition_goes_away_are_told_as_ended_and_forgotten(executor: ThreadPoolExecutor) -> None:
    recognizer = make_recognizer(executor)
    await walk(recognizer, ALICE, range(3), partition=("frames.north", 1))
    await walk(recognizer, ALICE, range(3), camera="yard", partition=("frames.north", 2))
    assert [(s.camera, s.closed) for s, _ in recognizer.release({("frames.north", 1)})] == [("gate", True)]
    assert [s.camera for s, _ in recognizer.finish()] == ["yard"]
