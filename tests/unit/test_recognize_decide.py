"""A decision is honest, and does not flap."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import Candidate, Quality
from recognize.decide import KEEP_MARGIN, Decision, Evidence, decide, revise

GOOD = Quality(value=0.8, reasons=())
POOR = Quality(value=0.1, reasons=("blurred", "too_dark"))


def candidate(name: str, score: float, rank: int = 1) -> Candidate:
    return Candidate(subject_id=f"id-{name}", subject=name, reference_id=f"ref-{name}", score=score, rank=rank)


def evidence(*candidates: Candidate, quality: Quality = GOOD, height_px: float = 100.0, threshold: float = 0.45) -> Evidence:
    return Evidence(candidates=candidates, threshold=threshold, quality=quality, height_px=height_px, min_height_px=32.0)


@pytest.mark.parametrize(
    ("given_evidence", "outcome", "reason"),
    [
        (evidence(candidate("alice", 0.45)), "subject", ""),
        (evidence(candidate("alice", 0.449)), "stranger", "below_threshold"),
        (evidence(), "stranger", "empty_gallery"),
        (evidence(candidate("alice", 0.3), quality=POOR), "unclear", "blurred"),
        (evidence(candidate("alice", 0.6), quality=POOR), "subject", ""),
        (evidence(candidate("alice", 0.9), height_px=31.0), "unclear", "too_small"),
        (evidence(candidate("alice", 0.60), candidate("twin", 0.59, 2)), "unclear", "ambiguous"),
        (evidence(candidate("alice", 0.46), candidate("twin", 0.449, 2)), "subject", ""),
    ],
)
def test_outcome_and_reason(given_evidence: Evidence, outcome: str, reason: str) -> None:
    decision = decide(given_evidence)
    assert (decision.outcome, decision.reason) == (outcome, reason)


def test_a_name_is_kept_while_its_score_dips_a_little() -> None:
    named = decide(evidence(candidate("alice", 0.46)))
    kept = revise(named, evidence(candidate("alice", 0.42)))
    assert (kept.outcome, kept.changes) == ("subject", 0)
    assert kept.best is not None
    assert kept.best.score == 0.42
    assert kept.threshold == pytest.approx(0.40)  # what was asked for, so that a name never shows a score below its threshold


def test_a_name_is_taken_back_when_the_evidence_goes() -> None:
    named = decide(evidence(candidate("alice", 0.46)))
    gone = revise(named, evidence(candidate("alice", 0.30)))
    assert (gone.outcome, gone.changes) == ("stranger", 1)


def test_after_a_change_of_mind_a_higher_score_is_asked_for() -> None:
    gone = Decision(outcome="stranger", reason="below_threshold", best=None, threshold=0.45, changes=1)
    assert revise(gone, evidence(candidate("alice", 0.48))).outcome == "stranger"
    assert revise(gone, evidence(candidate("alice", 0.51))).outcome == "subject"


def test_a_stranger_becomes_known_when_the_track_gets_better() -> None:
    stranger = decide(evidence(candidate("alice", 0.40)))
    assert revise(stranger, evidence(candidate("alice", 0.50))).outcome == "subject"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60))
def test_names_change_only_as_often_as_the_threshold_can_still_rise(scores: list[tuple[float, float]]) -> None:
    decision: Decision | None = None
    names: list[str] = []
    for alice, ben in scores:
        ranked = sorted([candidate("alice", alice), candidate("ben", ben)], key=lambda c: -c.score)
        seen = evidence(*ranked)
        decision = decide(seen) if decision is None else revise(decision, seen)
        if decision.outcome == "subject" and decision.best is not None and (not names or names[-1] != decision.best.subject):
            names.append(decision.best.subject)
    # each change of mind raises the bar by the margin; beyond a cosine of 1 nobody is named any more
    assert len(names) <= (1 - 0.45) / KEEP_MARGIN + 2


def test_the_nearest_alone_is_named_each_by_a_threshold_of_its_own() -> None:
    alice, ben = candidate("alice", 0.60), candidate("ben", 0.50, 2)
    strict = replace(evidence(alice, ben), thresholds={"id-alice": 0.7})
    assert (decide(strict).outcome, decide(strict).reason, decide(strict).threshold) == ("stranger", "below_threshold", 0.7)
    lenient = replace(evidence(candidate("alice", 0.40)), thresholds={"id-alice": 0.35})
    assert (decide(lenient).outcome, decide(lenient).threshold) == ("subject", 0.35)


def test_a_second_who_can_not_be_told_apart_from_a_strict_first_makes_it_unclear() -> None:
    close = replace(evidence(candidate("alice", 0.60), candidate("ben", 0.59, 2)), thresholds={"id-alice": 0.7})
    assert (decide(close).outcome, decide(close).reason) == ("unclear", "ambiguous")


def test_a_name_that_was_said_to_be_wrong_is_not_given_and_the_next_one_may_be() -> None:
    wrong = candidate("alice", 0.60)
    alone = replace(evidence(), rejected=wrong)
    assert (decide(alone).outcome, decide(alone).reason, decide(alone).best) == ("stranger", "rejected_pair", None)
    next_one = replace(evidence(candidate("ben", 0.50, 2)), rejected=wrong)
    assert decide(next_one).best == candidate("ben", 0.50, 2)
    assert decide(next_one).outcome == "subject"


def test_a_name_is_taken_back_at_once_when_it_is_said_to_be_wrong_even_while_a_shard_is_away() -> None:
    named = decide(evidence(candidate("alice", 0.60)))
    away = replace(evidence(), rejected=candidate("alice", 0.60), shards_missing=1)
    assert (revise(named, away).outcome, revise(named, away).reason, revise(named, away).changes) == ("unclear", "shards_missing", 1)
    assert revise(named, replace(away, shards_missing=0)).reason == "rejected_pair"


def test_who_has_opted_out_is_dropped_for_good() -> None:
    alice = candidate("alice", 0.60)
    seen = replace(evidence(alice), opted_out=frozenset({"id-alice"}))
    gone = decide(seen)
    assert (gone.outcome, gone.reason, gone.best) == ("opted_out", "opted_out", None)
    assert revise(gone, evidence(candidate("ben", 0.9))) is gone
    assert revise(decide(evidence(alice)), seen).outcome == "opted_out"
    assert decide(replace(seen, height_px=10.0)).outcome == "opted_out"  # though nobody would be named so small
    assert decide(replace(seen, threshold=0.7)).outcome == "stranger"


def test_a_name_dips_below_its_threshold_and_is_still_dropped_when_it_opts_out() -> None:
    named = decide(evidence(candidate("alice", 0.46)))
    assert revise(named, replace(evidence(candidate("alice", 0.42)), opted_out=frozenset({"id-alice"}))).outcome == "opted_out"


def test_a_face_that_may_be_of_one_who_has_opted_out_is_dropped_but_takes_no_name_from_another() -> None:
    twins = replace(evidence(candidate("ben", 0.60), candidate("alice", 0.59, 2)), opted_out=frozenset({"id-alice"}))
    assert decide(twins).outcome == "opted_out"
    assert revise(decide(evidence(candidate("ben", 0.60))), twins).best == candidate("ben", 0.60)


def test_a_name_says_which_watchlists_ask_for_more() -> None:
    seen = replace(evidence(candidate("alice", 0.60)), weak_for={"id-alice": ("list-1",)})
    assert decide(seen).weak_for == ("list-1",)
    assert revise(decide(evidence(candidate("alice", 0.60))), seen).weak_for == ("list-1",)
    assert decide(replace(seen, threshold=0.7)).weak_for == ()


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60),
    st.floats(0.2, 0.9),
    st.floats(0.2, 0.9),
)
def test_names_with_thresholds_of_their_own_do_not_flap_and_never_lie(
    scores: list[tuple[float, float]], for_alice: float, for_ben: float
) -> None:
    decision: Decision | None = None
    names: list[str] = []
    for alice, ben in scores:
        ranked = sorted([candidate("alice", alice), candidate("ben", ben)], key=lambda c: -c.score)
        seen = replace(evidence(*ranked), thresholds={"id-alice": for_alice, "id-ben": for_ben})
        before, decision = decision, decide(seen) if decision is None else revise(decision, seen)
        if decision.outcome == "subject" and decision.best is not None:
            assert decision.best.score >= decision.threshold
            assert decision.best.score >= seen.threshold_of(decision.best) - KEEP_MARGIN
            if not names or names[-1] != decision.best.subject:
                assert decision.best == ranked[0]  # a name is never given to one behind the nearest
                names.append(decision.best.subject)
            elif before is not None and before.outcome != "subject":
                assert decision.best.score >= seen.threshold_of(decision.best) + KEEP_MARGIN * before.changes
    assert len(names) <= (1 - min(for_alice, for_ben)) / KEEP_MARGIN + 2
