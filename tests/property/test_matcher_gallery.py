"""Collapsing references to subjects, and merging shards, against brute force over all references."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import F32
from matcher.gallery import ReferenceRow
from matcher.gathering import merge
from matcher.numpy_index import NumpyIndex
from matcher.shard import Shard
from tests.builders.matcher import NOW_S, batch, row, unit_rows

GALLERIES = st.lists(st.integers(1, 40), min_size=1, max_size=8)  # references per subject


def gallery(sizes: list[int], seed: int, expired: set[int]) -> list[ReferenceRow]:
    vectors = iter(unit_rows(sum(sizes), 5, seed))
    return [
        row(
            f"s{subject}",
            number,
            next(vectors),
            expires_s=NOW_S - 1 if subject in expired and subject % 2 else None,
            starts_s=NOW_S + 1 if subject in expired and not subject % 2 else NOW_S - 1,
        )
        for subject, size in enumerate(sizes)
        for number in range(size)
    ]


def brute_force(rows: list[ReferenceRow], probe: F32, k: int) -> list[tuple[str, float]]:
    best: dict[str, float] = {}
    for one in rows:
        if one.expires_s is None and one.starts_s == NOW_S - 1:
            best[one.subject_id] = max(best.get(one.subject_id, -2.0), float(one.embedding @ probe))
    return sorted(best.items(), key=lambda item: -item[1])[:k]


@settings(max_examples=80, deadline=None)
@given(sizes=GALLERIES, seed=st.integers(0, 999), k=st.integers(1, 10), expired=st.sets(st.integers(0, 7), max_size=3))
def test_a_shard_answers_as_brute_force_does(sizes: list[int], seed: int, k: int, expired: set[int]) -> None:
    rows, probes = gallery(sizes, seed, expired), unit_rows(3, 5, seed + 1)
    shard = Shard()
    shard.load(rows, 1)
    answer = shard.search(batch(probes, k=k), NOW_S)
    for probe, candidates in zip(probes, answer.candidates, strict=True):
        expected = brute_force(rows, probe, k)
        assert [one.subject_id for one in candidates] == [subject for subject, _ in expected]
        np.testing.assert_allclose([one.score for one in candidates], [score for _, score in expected], atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(sizes=GALLERIES, seed=st.integers(0, 999), k=st.integers(1, 10), parts=st.integers(1, 4), data=st.data())
def test_any_split_of_a_gallery_merges_to_the_unsplit_answer(sizes: list[int], seed: int, k: int, parts: int, data: st.DataObject) -> None:
    rows, probes = gallery(sizes, seed, set()), unit_rows(2, 5, seed + 1)
    homes = data.draw(st.lists(st.integers(0, parts - 1), min_size=len(rows), max_size=len(rows)))
    split = []
    for part in range(parts):
        shard = Shard(new_index=NumpyIndex)
        shard.load((one for one, home in zip(rows, homes, strict=True) if home == part), 1)
        split.append(shard.search(batch(probes, k=k), NOW_S))
    whole = Shard(new_index=NumpyIndex)
    whole.load(rows, 1)
    (merged, expected) = merge(data.draw(st.permutations(split)), k), merge([whole.search(batch(probes, k=k), NOW_S)], k)
    for ours, theirs in zip(merged, expected, strict=True):
        assert [(one.subject_id, one.reference_id, one.rank) for one in ours] == [
            (one.subject_id, one.reference_id, one.rank) for one in theirs
        ]
        np.testing.assert_allclose([one.score for one in ours], [one.score for one in theirs], atol=1e-6)


@given(subjects=st.lists(st.uuids().map(str), min_size=1, max_size=50, unique=True), total=st.integers(1, 7))
def test_each_subject_has_one_shard(subjects: list[str], total: int) -> None:
    shards = [Shard(shard=number, shards_total=total, new_index=NumpyIndex) for number in range(total)]
    assert all(sum(shard.owns(subject) for shard in shards) == 1 for subject in subjects)
