"""What holds for any faces, any candidates, any names."""

import contextlib
import string

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.errors import UsageError
from core.types import Candidate, Faces, Quality
from enrollment.imports import parse_attributes, read_csv
from enrollment.judge import Policy, Rejection, choose_face, judge_identity, judge_quality, without_number
from enrollment.record import clean_name

coordinate = st.floats(-2000, 4000, width=32)
scores = st.floats(-1, 1)


@st.composite
def any_faces(draw: st.DrawFn) -> Faces:
    corners = draw(st.lists(st.tuples(coordinate, coordinate, st.floats(1, 900, width=32), st.floats(1, 900, width=32)), max_size=6))
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in corners], np.float32).reshape(-1, 4)
    n = len(boxes)
    values = draw(st.lists(st.floats(0.5, 1, width=32), min_size=n, max_size=n))
    return Faces(boxes=boxes, landmarks=np.zeros((n, 5, 2), np.float32), scores=np.array(values, np.float32))


@given(any_faces(), st.integers(1, 2048), st.integers(1, 2048))
def test_a_choice_is_a_face_or_a_named_reason(faces: Faces, width: int, height: int) -> None:
    choice = choose_face(faces, width_px=width, height_px=height)
    if isinstance(choice, Rejection):
        assert choice.reason == ("no_face" if not len(faces) else "several_faces")
    else:
        assert 0 <= choice < len(faces)


@given(any_faces(), st.randoms())
def test_the_order_of_faces_does_not_matter(faces: Faces, random: object) -> None:
    order = list(range(len(faces)))
    random.shuffle(order)  # type: ignore[attr-defined]
    first = choose_face(faces, width_px=1000, height_px=1000)
    second = choose_face(faces.take(np.array(order, np.intp)), width_px=1000, height_px=1000)
    if isinstance(first, Rejection) or isinstance(second, Rejection):
        assert first == second
    else:
        assert np.array_equal(faces.boxes[first], faces.boxes[order[second]])


@given(st.floats(0, 1), st.floats(0, 4000), st.floats(0, 1))
def test_a_better_face_is_never_judged_worse(value: float, height: float, more: float) -> None:
    policy = Policy(lookalike_score=0.5, same_picture_score=0.98)
    better = judge_quality(Quality(value=min(1.0, value + more), reasons=("blurred",)), height * (1 + more), policy)
    assert judge_quality(Quality(value=value, reasons=("blurred",)), height, policy) is not None or better is None


@given(st.lists(st.tuples(st.sampled_from(["ann", "bob", "cyd"]), scores), max_size=5), st.floats(0, 0.9))
def test_identity_is_refused_only_for_a_reason_that_the_scores_show(found: list[tuple[str, float]], bound: float) -> None:
    policy = Policy(lookalike_score=bound, same_picture_score=0.98)
    ranked = sorted(found, key=lambda pair: -pair[1])
    candidates = [Candidate(subject_id=n, subject=n, reference_id="r", score=s, rank=i + 1) for i, (n, s) in enumerate(ranked)]
    rejection = judge_identity(candidates, subject="ann", policy=policy)
    own = max((s for n, s in found if n == "ann"), default=-1.0)
    other = max((s for n, s in found if n != "ann"), default=-1.0)
    if rejection is None:
        assert own < 0.98
        assert other < bound or other <= own
    elif rejection.reason == "looks_like_another_subject":
        assert other >= bound
        assert other > own
    else:
        assert rejection.reason == "duplicate_of_same_subject"
        assert own >= 0.98


@given(st.text(max_size=300))
def test_a_clean_name_is_clean_or_refused(text: str) -> None:
    try:
        name = clean_name(text)
    except UsageError:
        return
    assert clean_name(name) == name
    assert 1 <= len(name) <= 200
    assert "\n" not in name


@given(st.text(string.ascii_letters + "_- ()0123456789", min_size=1, max_size=20))
def test_taking_a_number_off_leaves_a_beginning_of_the_name(name: str) -> None:
    shorter = without_number(name)
    assert name.startswith(shorter)
    assert shorter.strip(" _-") or shorter == name


@given(st.text(string.ascii_letters, min_size=1, max_size=10), st.integers(0, 10**6), st.sampled_from(["_{}", "-{}", " {}", " ({})"]))
def test_every_spelling_of_a_number_comes_off(name: str, number: int, spelling: str) -> None:
    assert without_number(name + spelling.format(number)) == name


@given(st.text(max_size=200))
def test_attributes_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(parse_attributes(text), dict)


@given(
    st.lists(
        st.tuples(st.text(string.ascii_letters + " ,;\"'", min_size=1, max_size=12), st.text(string.ascii_letters, max_size=8)), max_size=8
    )
)
def test_a_csv_comes_back_row_by_row(rows: list[tuple[str, str]]) -> None:
    import csv
    import io

    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["file", "subject"])
    writer.writerows(rows)
    read = read_csv(out.getvalue().encode(), "x.csv")
    assert [(row.file, row.subject) for row in read] == [(file.strip(), subject) for file, subject in rows]
