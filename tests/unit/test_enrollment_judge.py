"""enrollment.judge: which face, and may it be enrolled."""

import numpy as np
import pytest

from core.types import Candidate, Faces, Quality
from enrollment.judge import Policy, Rejection, choose_face, judge_identity, judge_quality, pick_face, without_number

POLICY = Policy(lookalike_score=0.5, same_picture_score=0.98)


def faces(*boxes: tuple[float, float, float, float], scores: tuple[float, ...] = ()) -> Faces:
    return Faces(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        landmarks=np.zeros((len(boxes), 5, 2), np.float32),
        scores=np.array(scores or [0.9] * len(boxes), np.float32),
    )


def candidate(subject: str, score: float, rank: int = 1) -> Candidate:
    return Candidate(subject_id=f"id of {subject}", subject=subject, reference_id="r", score=score, rank=rank)


def reason(result: Rejection | int | None) -> str:
    assert isinstance(result, Rejection)
    return result.reason


def test_no_face() -> None:
    assert reason(choose_face(faces(), width_px=100, height_px=100)) == "no_face"


def test_the_only_face_wherever_it_is() -> None:
    assert choose_face(faces((0, 0, 10, 10)), width_px=1000, height_px=1000) == 0


def test_a_large_face_in_the_middle_outweighs_small_ones_in_the_background() -> None:
    group = faces((0, 0, 60, 80), (300, 200, 600, 600), (900, 0, 960, 80))
    assert choose_face(group, width_px=1000, height_px=800) == 1


def test_a_couple_is_several_faces() -> None:
    couple = choose_face(faces((100, 100, 400, 500), (600, 100, 880, 490)), width_px=1000, height_px=700)
    assert reason(couple) == "several_faces"
    assert isinstance(couple, Rejection)
    assert couple.detail == "2 faces of like size; crop the photo to the one person"


def test_a_face_that_is_mostly_outside_counts_by_what_is_seen_of_it() -> None:
    assert choose_face(faces((300, 200, 600, 600), (-280, 200, 20, 600)), width_px=1000, height_px=800) == 0


@pytest.mark.parametrize(
    ("value", "reasons", "expected"),
    [(0.05, ("blurred", "too_dark"), "blurred"), (0.05, ("extreme_pose",), "extreme_pose"), (0.05, (), "low_detector_score")],
)
def test_poor_faces_are_rejected_by_their_worst_trait(value: float, reasons: tuple[str, ...], expected: str) -> None:
    assert reason(judge_quality(Quality(value=value, reasons=reasons), 100.0, POLICY)) == expected


def test_usable_faces_pass_whatever_lowers_them() -> None:
    assert judge_quality(Quality(value=0.3, reasons=("blurred",)), 100.0, POLICY) is None


def test_too_small_says_how_small() -> None:
    rejection = judge_quality(Quality(value=1.0, reasons=()), 20.4, POLICY)
    assert rejection == Rejection(
        reason="too_small", detail="the face is 20 pixels high, at least 32 are needed; crop nearer to it, or use a larger photo"
    )


def test_a_new_face_passes() -> None:
    assert judge_identity([], subject="ann", policy=POLICY) is None
    assert judge_identity([candidate("bob", 0.49)], subject="ann", policy=POLICY) is None


def test_somebody_elses_face_is_rejected_with_name_and_score() -> None:
    rejection = judge_identity([candidate("bob", 0.71)], subject="ann", policy=POLICY)
    assert rejection == Rejection(
        reason="looks_like_another_subject",
        detail="looks like bob (0.710, alike from 0.500); if it is that person, use that name; if they are two, use --allow-lookalike",
    )


def test_numbered_names_get_a_hint() -> None:
    rejection = judge_identity([candidate("ann_1", 0.71)], subject="ann_2", policy=POLICY)
    assert rejection is not None
    assert rejection.detail.endswith("if they are photos of one person, use --numbered, or a folder 'ann'")


def test_a_twin_nearer_to_itself_passes() -> None:
    assert judge_identity([candidate("ann", 0.8), candidate("bob", 0.7, 2)], subject="ann", policy=POLICY) is None


def test_a_lookalike_may_be_allowed() -> None:
    allowing = Policy(lookalike_score=0.5, same_picture_score=0.98, allow_lookalike=True)
    assert judge_identity([candidate("bob", 0.71)], subject="ann", policy=allowing) is None


def test_nearly_the_same_picture_is_a_duplicate() -> None:
    assert reason(judge_identity([candidate("ann", 0.99)], subject="ann", policy=POLICY)) == "duplicate_of_same_subject"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alice_1", "alice"),
        ("alice-02", "alice"),
        ("alice 3", "alice"),
        ("alice (4)", "alice"),
        ("alice_b_5", "alice_b"),
        ("alice", "alice"),
        ("alice7", "alice7"),
        ("007", "007"),
        ("_1", "_1"),
        ("(1)", "(1)"),
        ("alice_", "alice_"),
    ],
)
def test_numbers_set_off_at_the_end(name: str, expected: str) -> None:
    assert without_number(name) == expected


def test_a_face_is_picked_by_its_index_or_a_point_in_its_box() -> None:
    group = faces((0, 0, 100, 100), (20, 20, 60, 60), (200, 0, 300, 100))
    assert [pick_face(group, wanted) for wanted in (2, (250.0, 50.0), (40.0, 40.0), (90.0, 90.0))] == [2, 2, 1, 0]
    assert reason(pick_face(group, 3)) == reason(pick_face(group, (150.0, 50.0))) == "no_such_face"
    assert reason(pick_face(faces(), 0)) == "no_face"
