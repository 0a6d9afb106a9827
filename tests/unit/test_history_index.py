"""The index of sightings: who is found, when and where; what goes; what comes late."""

import uuid
from typing import Any

import numpy as np
import pytest

from api.history.index import HistoryIndex, Wanted
from core.types import F32
from sightings.record import SeenFace

DIMENSIONS = 16


def vector(seed: int) -> F32:
    made = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return np.asarray(made / np.linalg.norm(made), np.float32)


def face(number: int, **changes: Any) -> SeenFace:
    fields: dict[str, Any] = {
        "sighting_id": str(uuid.UUID(int=number)),
        "camera": "door",
        "outcome": "stranger",
        "quality": 0.8,
        "first_s": 100.0 * number,
        "last_s": 100.0 * number + 10,
        "revision": 1,
        "model": "paper",
        "embedding": vector(number),
    }
    return SeenFace(**(fields | changes))


def found(index: HistoryIndex, seed: int, *, least: float = 0.99, **wanted: Any) -> list[int]:
    answer = index.search(vector(seed), 50, Wanted(**wanted), lambda _searched: least)
    return [uuid.UUID(key).int for key in answer.sighting_ids]


@pytest.fixture
def index() -> HistoryIndex:
    made = HistoryIndex(DIMENSIONS, most=1000)
    made.put([face(n, camera="hall" if n % 2 else "door", outcome="subject" if n == 4 else "stranger") for n in range(1, 9)])
    return made


def test_finds_by_face_time_place_and_outcome(index: HistoryIndex) -> None:
    assert found(index, 4) == [4]
    assert found(index, 4, cameras=frozenset({"door"}), outcomes=frozenset({"subject"}), since_s=410.0, until_s=401.0) == [4]
    for nothing in ({"cameras": frozenset({"hall"})}, {"outcomes": frozenset({"unclear"})}, {"since_s": 410.5}, {"until_s": 400.0}):
        assert found(index, 4, **nothing) == [], nothing
    assert found(index, 4, cameras=frozenset()) == []


def test_the_threshold_is_told_how_many_are_searched(index: HistoryIndex) -> None:
    told: list[int] = []
    index.search(vector(1), 5, Wanted(cameras=frozenset({"hall"})), lambda searched: told.append(searched) or 0.5)
    assert told == [4]


def test_an_older_revision_changes_nothing_and_a_newer_one_replaces(index: HistoryIndex) -> None:
    index.put([face(4, revision=0, embedding=vector(99))])
    assert (found(index, 99), found(index, 4)) == ([], [4])
    index.put([face(4, revision=2, embedding=vector(99))])
    assert (found(index, 99), found(index, 4)) == ([4], [])
    assert len(index) == 8


def test_what_is_removed_is_gone_and_its_place_is_taken_again(index: HistoryIndex) -> None:
    before = index.bytes_used
    index.remove([str(uuid.UUID(int=4)), str(uuid.UUID(int=4000))])
    assert (found(index, 4), len(index)) == ([], 7)
    index.put([face(20)])
    assert (found(index, 20), len(index), index.bytes_used) == ([20], 8, before)


def test_a_new_pass_drops_what_is_not_there_any_more(index: HistoryIndex) -> None:
    index.begin_pass()
    index.put([face(n) for n in (2, 4, 6)])
    assert found(index, 3) == [3]  # what was there answers meanwhile
    assert index.end_pass() == 5
    assert sorted(n for n in range(1, 9) if found(index, n)) == [2, 4, 6]


def test_a_full_index_lets_the_oldest_go() -> None:
    index = HistoryIndex(DIMENSIONS, most=100)
    index.put([face(n) for n in range(1, 101)])
    index.put([face(500)])
    assert (found(index, 1), found(index, 2), found(index, 500)) == ([], [2], [500])
    assert (index.evicted, index.oldest_s) == (1, 200.0)


def test_it_grows_over_the_rounding_of_its_tables() -> None:
    index = HistoryIndex(DIMENSIONS, most=200_000)
    vectors = np.random.default_rng(1).standard_normal((60_000, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for first in range(0, len(vectors), 20_000):
        index.put([face(n + 1, embedding=vectors[n]) for n in range(first, first + 20_000)])
    for n in (0, 19_999, 20_000, 59_999):
        answer = index.search(vectors[n], 1, Wanted(), lambda _searched: 0.999)
        assert uuid.UUID(answer.sighting_ids[0]).int == n + 1


def test_the_oldest_is_known_while_others_come_and_go() -> None:
    """Others read it while a thread changes the index: it stands ready, and nothing is computed from rows that are being written."""
    index, there = HistoryIndex(DIMENSIONS, most=40), dict[int, float]()
    rng = np.random.default_rng(7)
    assert index.oldest_s is None
    for _ in range(300):
        numbers = [int(number) for number in rng.choice(60, size=rng.integers(1, 6), replace=False)]
        if rng.random() < 0.5:
            times = {number: float(rng.integers(1, 1000)) for number in numbers}
            there |= times
            index.put([face(number, first_s=first_s, revision=2) for number, first_s in times.items()])
            for late in sorted(there, key=lambda number: there[number])[: max(0, len(there) - 40)]:
                del there[late]
        else:
            index.remove([str(uuid.UUID(int=number)) for number in numbers])
            there = {number: first_s for number, first_s in there.items() if number not in numbers}
        assert len(index) == len(there)
        assert index.oldest_s == min(there.values(), default=None)
