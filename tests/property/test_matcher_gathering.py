"""Gathering: any order, duplicates, several layouts, partial."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MessageError
from core.schema import ShardAnswer
from core.topology import ShardId
from matcher.buckets import BUCKETS, buckets_of
from matcher.gathering import Gathering, coverage, covered_by, layout, missing_from
from matcher.numpy_index import NumpyIndex
from matcher.shard import Shard
from tests.builders.fleet import people, shard_answer
from tests.builders.matcher import NOW_S, batch, unit_rows

LAYOUTS = st.sets(st.integers(1, 6), min_size=1, max_size=3)
PROBES = unit_rows(2, 6, seed=9)
ROWS = people(unit_rows(40, 6))


def answers_of(total: int, generation: int, k: int) -> list[ShardAnswer]:
    """Answers of all shards of a layout over the same gallery."""
    answers = []
    for shard in layout(total):
        made = Shard(shard=shard.shard, shards_total=total, new_index=NumpyIndex)
        made.load(ROWS, generation)
        answers.append(made.search(batch(PROBES, k=k), NOW_S))
    return answers


def gathered(answers: list[ShardAnswer], k: int) -> Gathering:
    gathering = Gathering(probes=len(PROBES), k=k)
    for answer in answers:
        gathering.add(answer)
    return gathering


@settings(max_examples=60, deadline=None)
@given(totals=LAYOUTS, k=st.integers(1, 8), data=st.data())
def test_layouts_in_any_order_with_duplicates_give_the_whole_gallerys_answer(totals: set[int], k: int, data: st.DataObject) -> None:
    every = [answer for generation, total in enumerate(totals, 5) for answer in answers_of(total, generation, k)]
    twice = [*every, *data.draw(st.lists(st.sampled_from(every), max_size=4))]
    gathering = gathered(data.draw(st.permutations(twice)), k)
    answer, whole = gathering.result(), gathered(answers_of(1, 1, k), k).result()
    assert gathering.complete
    assert [[one.subject for one in of_probe] for of_probe in answer.candidates] == [
        [one.subject for one in of_probe] for of_probe in whole.candidates
    ]
    assert (answer.references, answer.shards_missing, answer.generation) == (40, 0, 5)


@settings(max_examples=100, deadline=None)
@given(totals=LAYOUTS, data=st.data())
def test_it_is_complete_exactly_when_every_bucket_was_searched(totals: set[int], data: st.DataObject) -> None:
    every = [answer for total in sorted(totals) for answer in answers_of(total, 1, 3)]
    some = data.draw(st.lists(st.sampled_from(every), max_size=8))
    searched = {bucket for answer in some for bucket in buckets_of(answer.shard, answer.shards_total)}
    gathering = gathered(some, 3)
    assert gathering.complete == (len(searched) == BUCKETS)
    if some:
        answer = gathering.result()
        assert (answer.shards_missing == 0) == gathering.complete
        in_reach = [row for row in ROWS if any(row.subject_id == one for one in _subjects(some))]
        one_layout = len({answer.shards_total for answer in some}) == 1
        heard = {(one.shard, one.shards_total): one.references for one in some}
        assert answer.references <= (40 if one_layout else sum(heard.values()))  # overlapping shards count by shares: an estimate
        assert {one.subject_id for of_probe in answer.candidates for one in of_probe} <= {row.subject_id for row in in_reach}


def _subjects(answers: list[ShardAnswer]) -> set[str]:
    return {row.subject_id for answer in answers for of_probe in answer.candidates for row in of_probe}


@given(total=st.integers(1, 12), data=st.data())
def test_of_one_layout_what_did_not_answer_is_missing(total: int, data: st.DataObject) -> None:
    there = data.draw(st.sets(st.sampled_from(layout(total)), min_size=1))
    assert set(missing_from(there)) == set(layout(total)) - there


@given(total=st.integers(1, 1024))
def test_a_layout_covers_every_bucket_once(total: int) -> None:
    shards = layout(total)
    assert covered_by(shards).bit_count() == sum(coverage(shard).bit_count() for shard in shards) == BUCKETS


def test_shards_of_two_layouts_complete_each_other() -> None:
    assert missing_from({ShardId(shards_total=2, shard=0), ShardId(shards_total=3, shard=1), ShardId(shards_total=3, shard=2)}) == ()
    assert missing_from({ShardId(shards_total=2, shard=0), ShardId(shards_total=3, shard=2)}) == (ShardId(shards_total=2, shard=1),)
    assert missing_from(()) == ()


def test_references_of_overlapping_layouts_are_counted_once_by_their_share_of_the_buckets() -> None:
    gathering = Gathering(probes=0, k=1)
    gathering.add(shard_answer(ShardId(shards_total=2, shard=0), references=512))
    gathering.add(shard_answer(ShardId(shards_total=4, shard=1), references=256))
    gathering.add(shard_answer(ShardId(shards_total=4, shard=2), references=256))
    assert gathering.result().references == 768


def test_the_newest_generation_names_a_subject() -> None:
    gathering = Gathering(probes=1, k=1)
    gathering.add(shard_answer(ShardId(shards_total=1, shard=0), [[("ann", 0.5)]], generation=2))
    new = shard_answer(ShardId(shards_total=2, shard=0), [[("ann", 0.5)]], generation=3)
    renamed = [[row.__class__(row.subject_id, "Anna", row.reference_id, row.score) for row in of_probe] for of_probe in new.candidates]
    gathering.add(shard_answer(ShardId(shards_total=2, shard=0), generation=3, candidates=tuple(map(tuple, renamed))))
    answer = gathering.result()
    assert (answer.candidates[0][0].subject, answer.generation) == ("Anna", 2)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (shard_answer(ShardId(shards_total=1, shard=0), [[("a", 1.0)], []]), "2 rows for 1 probes"),
        (shard_answer(ShardId(shards_total=1, shard=0), [[]], shard=4), "shard 4 of 1"),
        (shard_answer(ShardId(shards_total=1, shard=0), [[]], shards_total=5000), "shard 0 of 5000: expected"),
    ],
)
def test_what_is_no_answer_is_refused(answer: ShardAnswer, problem: str) -> None:
    with pytest.raises(MessageError, match=problem):
        Gathering(probes=1, k=1).add(answer)
