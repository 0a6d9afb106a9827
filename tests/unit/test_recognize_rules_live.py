"""Rules that change while people walk by: thresholds, wrong names, opt-outs; on painted people, through the real tracker."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np

from core.metrics import Metrics
from core.ports import MatchAnswer
from core.schema import Sighting
from core.types import F32
from recognize.recognizer import Told
from recognize.rules.rules import ListedOn, Rulebook, Rules
from recognize.rules.target import Target
from tests.builders.painted import ListMatcher, vector_of
from tests.builders.recognizers import ALICE, STRANGER, MovingMatcher, last, make_recognizer, walk

SUBJECT = "id-alice"
OPTED_OUT = Rules(opted_out=frozenset({SUBJECT}))


class NearMatcher(ListMatcher):
    """Knows Alice by a picture that is not quite like her: she scores 0.8."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__(names)
        other = vector_of(ALICE + 100)
        mixed = 0.8 * vector_of(ALICE) + 0.6 * (other - (other @ vector_of(ALICE)) * vector_of(ALICE))
        self._vectors = (mixed / np.linalg.norm(mixed))[None].astype(np.float32)


class LateMatcher(ListMatcher):
    """Learns of Alice when told to."""

    def __init__(self) -> None:
        super().__init__({ALICE: "alice"})
        self.knows = False

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        if not self.knows:
            return MatchAnswer(candidates=((),) * len(probes), generation=1, references=0)
        return await super().search(probes, model=model, collection=collection, k=k)


def outcomes(told: list[Told]) -> set[tuple[str, str]]:
    return {(sighting.outcome, sighting.reason) for sighting, _ in told}


def count(metrics: Metrics) -> float:
    return float(metrics.registry.get_sample_value("sightline_recognize_opted_out_total", {"camera": "gate", "region": "north"}) or 0)


async def test_nothing_is_ever_told_of_somebody_who_has_opted_out(executor: ThreadPoolExecutor) -> None:
    metrics = Metrics()
    recognizer = make_recognizer(executor, book=Rulebook(OPTED_OUT), metrics=metrics)
    told = await walk(recognizer, ALICE, range(60))
    assert told + recognizer.expire(1010.0) + recognizer.finish() == []
    assert count(metrics) == 1
    assert await walk(recognizer, STRANGER, range(100, 103))  # and others are told of as ever


async def test_what_was_told_before_anybody_knew_is_taken_back_once_and_for_all(executor: ThreadPoolExecutor) -> None:
    matcher, metrics = LateMatcher(), Metrics()
    recognizer = make_recognizer(executor, matcher=matcher, book=Rulebook(OPTED_OUT), metrics=metrics)
    first = last(await walk(recognizer, ALICE, range(5)))
    assert (first.outcome, first.dropped) == ("stranger", False)
    matcher.knows = True
    told = await walk(recognizer, ALICE, range(5, 60)) + recognizer.finish()
    ((gone, picture),) = [(sighting, jpeg) for sighting, jpeg in told if sighting.dropped]
    assert told[-1] == (gone, picture)
    assert (gone.sighting_id, gone.closed, picture) == (first.sighting_id, True, b"")
    assert gone.revision > max(sighting.revision for sighting, _ in told[:-1] or [(first, b"")])
    nothing = SimpleNamespace(
        outcome="unclear", reason="opted_out", subject_id=None, subject=None, reference_id=None, score=None, embedding=None, path=(),
        best_box=(0, 0, 0, 0), weak_for=(), quality=0.0,
    )  # fmt: skip
    assert {name: getattr(gone, name) for name in vars(nothing)} == vars(nothing)
    assert count(metrics) == 1


async def test_who_opts_out_while_in_sight_is_taken_back(executor: ThreadPoolExecutor) -> None:
    book = Rulebook()
    recognizer = make_recognizer(executor, book=book)
    assert last(await walk(recognizer, ALICE, range(5))).subject == "alice"
    book.now = OPTED_OUT
    told = await walk(recognizer, ALICE, range(5, 60)) + recognizer.finish()
    assert [sighting.dropped for sighting, _ in told].count(True) == 1
    assert last(told).dropped
    assert last(told).subject is None


async def test_who_is_found_when_a_shard_returns_is_taken_back_too(executor: ThreadPoolExecutor) -> None:
    matcher, metrics = MovingMatcher(), Metrics()
    matcher.missing = 1
    recognizer = make_recognizer(executor, matcher=matcher, book=Rulebook(OPTED_OUT), metrics=metrics)
    told = await walk(recognizer, ALICE, range(5)) + recognizer.finish()
    assert last(told).reason == "shards_missing"
    matcher.missing = 0
    ((gone, picture),) = await recognizer.complete()
    assert (gone.dropped, gone.embedding, picture, recognizer.incomplete) == (True, None, b"", 0)
    assert gone.revision > last(told).revision
    assert count(metrics) == 1
    assert await recognizer.complete() == []


async def test_a_camera_may_ask_for_more(executor: ThreadPoolExecutor) -> None:
    book = Rulebook(Rules(targets={("camera", "gate"): Target(score=0.9)}))
    recognizer = make_recognizer(executor, matcher=NearMatcher({ALICE: "alice"}), book=book)
    strict = last(await walk(recognizer, ALICE, range(5)))
    lenient = last(await walk(recognizer, ALICE, range(5), camera="yard"))
    assert (strict.outcome, strict.reason, strict.threshold) == ("stranger", "below_threshold", 0.9)
    assert (lenient.subject, round(lenient.score or 0, 2)) == ("alice", 0.8)
    book.now = Rules(targets={("camera", "gate"): Target(score=0.9), ("subject", SUBJECT): Target(score=0.75)})
    again = last(await walk(recognizer, ALICE, range(5, 40)))
    assert (again.subject, again.threshold) == ("alice", 0.7)  # the subject's own beats the camera's, less what a name is kept by


async def test_a_sighting_says_which_watchlists_ask_for_more_than_it_has(executor: ThreadPoolExecutor) -> None:
    listed = {SUBJECT: (ListedOn(watchlist_id="1", name="vip"), ListedOn(watchlist_id="2", name="staff"))}
    targets = {("watchlist", "vip"): Target(score=0.9), ("watchlist", "staff"): Target(score=0.5), ("subject", SUBJECT): Target(score=0.4)}
    recognizer = make_recognizer(
        executor, matcher=NearMatcher({ALICE: "alice"}), book=Rulebook(Rules(targets=targets, listed=listed))  # type: ignore[arg-type]
    )  # fmt: skip
    seen = last(await walk(recognizer, ALICE, range(5)))
    assert (seen.subject, seen.weak_for) == ("alice", ("1",))


async def test_a_wrong_name_goes_while_the_person_is_in_sight_and_comes_back_when_that_is_undone(executor: ThreadPoolExecutor) -> None:
    book = Rulebook()
    recognizer = make_recognizer(executor, matcher=NearMatcher({ALICE: "alice"}), book=book)
    assert last(await walk(recognizer, ALICE, range(5))).subject == "alice"
    book.now = Rules(exemplars={(SUBJECT, "painted"): vector_of(ALICE)[None]})
    told = await walk(recognizer, ALICE, range(5, 60))
    assert (last(told).outcome, last(told).reason, last(told).subject_id) == ("stranger", "rejected_pair", None)
    assert len({named(sighting) for sighting, _ in told if sighting.outcome != "subject"}) == 1
    book.now = Rules()
    assert last(await walk(recognizer, ALICE, range(60, 120))).subject == "alice"


async def test_another_face_gets_the_name_as_ever(executor: ThreadPoolExecutor) -> None:
    wrong = Rules(exemplars={(SUBJECT, "painted"): vector_of(STRANGER)[None]})
    recognizer = make_recognizer(executor, matcher=NearMatcher({ALICE: "alice"}), book=Rulebook(wrong))
    assert last(await walk(recognizer, ALICE, range(5))).subject == "alice"


def named(sighting: Sighting) -> tuple[str, str | None]:
    return sighting.reason, sighting.subject_id
