"""One contract for every VectorIndex; NumPy is the oracle."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.exact import BLOCK_ROWS, exact_search
from matcher.faiss_index import EXACT_ROWS, FaissIndex
from matcher.index import I64, VectorIndex
from matcher.numpy_index import NumpyIndex
from tests.builders.matcher import unit_rows

NewIndex = Callable[[int], VectorIndex]
INDEXES: dict[str, NewIndex] = {"numpy": NumpyIndex, "faiss": FaissIndex, "exact": lambda d: FaissIndex(d, exact=True)}


@pytest.fixture(params=INDEXES)
def new_index(request: pytest.FixtureRequest) -> NewIndex:
    return INDEXES[request.param]


def slots(*values: int) -> I64:
    return np.array(values, np.int64)


def test_an_empty_index_finds_nothing(new_index: NewIndex) -> None:
    found, scores = new_index(8).search(unit_rows(3, 8), 5)
    assert found.shape == scores.shape == (3, 0)


def test_best_first_and_no_more_than_there_are(new_index: NewIndex) -> None:
    index, rows = new_index(8), unit_rows(4, 8)
    given_slots = index.add(rows)
    found, scores = index.search(rows[1:3], 10)
    assert found.shape == (2, 4)
    assert found[:, 0].tolist() == given_slots[1:3].tolist()
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-5)


def test_a_deleted_row_is_never_found_and_its_slot_names_nothing(new_index: NewIndex) -> None:
    index, rows = new_index(8), unit_rows(3, 8)
    given_slots = index.add(rows)
    index.delete(given_slots[:1])
    assert given_slots[0] not in index.search(rows[:1], 3)[0]
    assert len(index) == 2
    with pytest.raises(KeyError, match=f"slot {given_slots[0]} has no row"):
        index.delete(given_slots[:1])


def test_an_updated_row_keeps_its_slot(new_index: NewIndex) -> None:
    index, rows = new_index(8), unit_rows(4, 8)
    given_slots = index.add(rows[:3])
    index.update(given_slots[1:2], rows[3:])
    assert index.search(rows[3:], 1)[0][0, 0] == given_slots[1]


def test_a_bad_change_changes_nothing(new_index: NewIndex) -> None:
    index, rows = new_index(8), unit_rows(2, 8)
    given_slots = index.add(rows)
    for bad in (slots(int(given_slots[0]), 99), slots(int(given_slots[0]), -1), slots(int(given_slots[0]), int(given_slots[0]))):
        with pytest.raises(KeyError):
            index.delete(bad)
        with pytest.raises(KeyError):
            index.update(bad, rows)
    assert index.search(rows, 1)[0][:, 0].tolist() == given_slots.tolist()


def test_rows_of_another_length_are_refused(new_index: NewIndex) -> None:
    with pytest.raises(ValueError, match="vectors: expected Nx8 float32, got 1x9 float32"):
        new_index(8).add(unit_rows(1, 9))
    with pytest.raises(ValueError, match="probes: expected Nx8 float32, got 1x9 float32"):
        new_index(8).search(unit_rows(1, 9), 1)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "update", "delete"]), st.integers(0, 2**32 - 1)), max_size=30), k=st.integers(1, 40)
)
def test_any_history_searches_like_the_oracle(steps: list[tuple[str, int]], k: int) -> None:
    index, oracle = FaissIndex(6), NumpyIndex(6)
    pairs: list[tuple[int, int]] = []
    for place, (action, number) in enumerate(steps):
        seed = number * 64 + place  # no two steps alike: equal rows may come in any order
        if action == "add":
            rows = unit_rows(number % 9, 6, seed)
            pairs += zip(index.add(rows).tolist(), oracle.add(rows).tolist(), strict=True)
        elif pairs:
            ours, theirs = pairs[number % len(pairs)]
            if action == "update":
                row = unit_rows(1, 6, seed)
                index.update(slots(ours), row)
                oracle.update(slots(theirs), row)
            else:
                index.delete(slots(ours))
                oracle.delete(slots(theirs))
                pairs.remove((ours, theirs))
    to_oracle = dict(pairs)
    probes = unit_rows(3, 6, 77)
    (found, scores), (expected, expected_scores) = index.search(probes, k), oracle.search(probes, k)
    assert len(index) == len(oracle) == len(pairs)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    assert [[to_oracle[slot] for slot in row] for row in found.tolist()] == expected.tolist()


@pytest.mark.parametrize("count", [1, 5, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS + 7])
@pytest.mark.parametrize("probes", [1, 2, 64])
@pytest.mark.parametrize("k", [1, 7, 2000])
def test_exact_search_in_blocks_is_a_full_sort(count: int, probes: int, k: int) -> None:
    vectors, asked = unit_rows(count, 16, 1), unit_rows(probes, 16, 2)
    rows, scores = exact_search(vectors, asked, k)
    order = np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :k]
    np.testing.assert_allclose(scores, np.take_along_axis(asked @ vectors.T, order, axis=1), atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(asked @ vectors.T, rows, axis=1), scores, atol=1e-5)
    assert all(len(set(row)) == min(k, count) for row in rows.tolist())


def test_equal_rows_are_all_found_in_a_batch() -> None:
    vectors = np.repeat(unit_rows(1, 16), 3000, axis=0)
    rows, scores = exact_search(vectors, unit_rows(20, 16, 3), 2500)
    assert all(len(set(row)) == 2500 for row in rows.tolist())
    assert np.ptp(scores, axis=1).max() < 1e-5


class TestCodes:
    """Above EXACT_ROWS one probe goes through binary codes."""

    @pytest.mark.parametrize(("dimensions", "lean"), [(512, 0.0), (128, 2.2)], ids=["512-d", "128-d leaning like dlib"])
    def test_rank_1_is_the_oracles_also_after_changes(self, dimensions: int, lean: float) -> None:
        rng = np.random.default_rng(5)
        people = rng.standard_normal((2000, dimensions), dtype=np.float32) / np.float32(np.sqrt(dimensions))
        people[:, 0] += lean
        noise = rng.standard_normal((6000, dimensions), dtype=np.float32) * np.float32(0.6 / np.sqrt(dimensions))
        views = np.repeat(people, 3, axis=0) + noise
        rows = views / np.linalg.norm(views, axis=1, keepdims=True)
        index = FaissIndex(dimensions)
        given_slots = np.concatenate([index.add(rows[first : first + 500]) for first in range(0, 5500, 500)])
        index.update(given_slots[:200], rows[5500:5700])
        index.delete(given_slots[500:1000])
        assert len(index) > EXACT_ROWS
        kept = np.r_[0:500, 1000:5500]
        truth = np.concatenate([rows[5500:5700], rows[200:5500]])[kept]
        for probe in rows[[*range(500, 530), *range(5500, 5530), *range(5960, 6000)]]:
            found, scores = index.search(probe[None], 3)
            best = int((truth @ probe).argmax())
            assert found[0, 0] == given_slots[kept[best]]
            assert scores[0, 0] == pytest.approx(float(truth[best] @ probe), abs=1e-5)

    def test_a_probe_that_is_near_nobody_gets_the_oracles_answer(self) -> None:
        rows = unit_rows(EXACT_ROWS + 2000, 64)
        index = FaissIndex(64)
        given_slots = index.add(rows)
        for probe in unit_rows(40, 64, 9):
            assert index.search(probe[None], 1)[0][0, 0] == given_slots[(rows @ probe).argmax()]

    def test_many_references_wanted_are_all_there(self) -> None:
        index = FaissIndex(16)
        index.add(unit_rows(EXACT_ROWS + 500, 16))
        found, _ = index.search(unit_rows(1, 16, 4), EXACT_ROWS + 500)
        assert len(set(found[0].tolist())) == EXACT_ROWS + 500
