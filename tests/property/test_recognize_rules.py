"""Which threshold applies: the strongest level that says something, in the order that docs/thresholds.md promises."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import RecognizeSettings
from core.types import F32, Candidate
from recognize.rules.rules import ListedOn, Probe, Rules, Scope
from recognize.rules.target import Target
from recognize.threshold import ThresholdPolicy
from tests.builders.recognizers import calibration

POLICY = ThresholdPolicy(calibration=calibration(), settings=RecognizeSettings())
ALICE = "00000000-0000-0000-0000-00000000a11c"
TARGETS = st.one_of(
    st.floats(-1, 1).map(lambda value: Target(score=value)),
    st.floats(1e-6, 0.5).map(lambda value: Target(far=value)),
    st.floats(1e-4, 0.5).map(lambda value: Target(fpir=value)),
)
PLACES = [("subject", ALICE), ("camera", "door"), ("watchlist", "vip"), ("watchlist", "staff"), ("collection", "default"),
          ("deployment", "default")]  # fmt: skip
LISTED = {ALICE: (ListedOn(watchlist_id="1", name="vip"), ListedOn(watchlist_id="2", name="staff"))}


def rules(targets: dict[Any, Target], **more: Any) -> Rules:
    on = tuple(one for one in LISTED[ALICE] if ("watchlist", one.name) in targets)
    return Rules(targets=targets, listed={ALICE: on} if on else {}, **more)


def unit(*values: float) -> F32:
    vector = np.array(values, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


@given(st.dictionaries(st.sampled_from(PLACES), TARGETS), st.none() | TARGETS, st.integers(0, 10_000), st.none() | st.floats(0.5, 1))
def test_the_strongest_level_applies(
    targets: dict[tuple[Any, str], Target], request: Target | None, references: int, agreement: float | None
) -> None:
    scope = Scope(collection="default", camera="door", request=request)
    found = rules(targets).effective(POLICY, scope, subject_id=ALICE, references=references, agreement=agreement)

    def score(target: Target) -> float:
        return POLICY.score(target, references=references, agreement=agreement)

    def expected() -> tuple[str, float]:
        if request is not None:
            return "request", score(request)
        for level in ("subject", "camera", "watchlist", "collection", "deployment"):
            here = [score(target) for (at, _), target in targets.items() if at == level]
            if here:
                return level, max(here)
        return "settings", score(POLICY.default)

    assert (found.applied.level, found.score) == expected()
    assert [one.level for one in found.looked if one.level != "watchlist"] == [
        "request", "subject", "camera", "collection", "deployment", "settings",
    ]  # fmt: skip


@given(st.dictionaries(st.sampled_from(PLACES), TARGETS), st.floats(-1, 1))
def test_weighing_gives_each_candidate_what_effective_explains(targets: dict[tuple[Any, str], Target], score: float) -> None:
    those, scope = rules(targets), Scope(collection="default", camera="door")
    one = Candidate(subject_id=ALICE, subject="alice", reference_id="r", score=score, rank=1)
    other = Candidate(subject_id="someone", subject="ben", reference_id="r", score=score, rank=2)
    weighed = those.weigh(POLICY, scope, Probe(vector=unit(1, 0), model="painted", references=7), [one, other])
    assert weighed.candidates == (one, other)
    assert weighed.thresholds[ALICE] == those.effective(POLICY, scope, subject_id=ALICE, references=7).score
    assert weighed.thresholds["someone"] == weighed.threshold == those.effective(POLICY, scope, references=7).score
    weak = {on.watchlist_id for on in those.listed.get(ALICE, ()) if score < POLICY.score(targets["watchlist", on.name], references=7)}
    assert set(weighed.weak_for.get(ALICE, ())) == weak


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_a_wrong_name_is_kept_from_who_is_nearer_to_its_exemplar_and_surely_that_person(candidate: float, exemplar: float) -> None:
    probe = unit(1, 0)
    wrong = unit(exemplar, np.sqrt(max(0.0, 1 - exemplar * exemplar)))[None]
    those = Rules(exemplars={(ALICE, "painted"): wrong})
    one = Candidate(subject_id=ALICE, subject="alice", reference_id="r", score=candidate, rank=1)
    weighed = those.weigh(POLICY, Scope(collection="default"), Probe(vector=probe, model="painted", references=7), [one])
    nearest = float((wrong @ probe).max())
    same = POLICY.score(Target(fpir=0.01), references=1)
    assert (weighed.rejected == one) == (weighed.candidates == ()) == (nearest > candidate and nearest >= same)


def test_an_exemplar_of_another_model_says_nothing() -> None:
    those = Rules(exemplars={(ALICE, "other"): unit(1, 0)[None]})
    one = Candidate(subject_id=ALICE, subject="alice", reference_id="r", score=0.5, rank=1)
    weighed = those.weigh(POLICY, Scope(collection="default"), Probe(vector=unit(1, 0), model="painted", references=7), [one])
    assert weighed.candidates == (one,)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "target: expected exactly one of score, far and fpir, got Target(score=None, far=None, fpir=None)"),
        ({"score": 0.5, "far": 0.1}, "target: expected exactly one of score, far and fpir, got Target(score=0.5, far=0.1, fpir=None)"),
        ({"score": 1.5}, "target: expected a score from -1 to 1, got 1.5"),
        ({"fpir": 1.0}, "target: expected 0 < fpir < 1, got 1.0"),
        ({"far": 0.0}, "target: expected 0 < far < 1, got 0.0"),
    ],
)
def test_a_target_is_one_thing(values: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match="target") as caught:
        Target(**values)
    assert str(caught.value) == text
