"""Which shard has whom."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import MessageError
from matcher.buckets import BUCKETS, bucket_of, buckets_of, ids_of


@given(total=st.integers(1, BUCKETS))
def test_shards_share_all_buckets_evenly(total: int) -> None:
    runs = [buckets_of(shard, total) for shard in range(total)]
    assert [bucket for run in runs for bucket in run] == list(range(BUCKETS))
    assert max(map(len, runs)) - min(map(len, runs)) <= 1


@given(subject=st.uuids(), total=st.integers(1, 50))
def test_the_ids_of_a_shard_are_one_range(subject: uuid.UUID, total: int) -> None:
    for shard in range(total):
        first, last = ids_of(buckets_of(shard, total))
        assert (first <= subject <= last) == (bucket_of(str(subject)) in buckets_of(shard, total))


@pytest.mark.parametrize(("shard", "total"), [(-1, 2), (2, 2), (0, 0), (0, BUCKETS + 1)])
def test_a_shard_that_is_none(shard: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"shard {shard} of {total}: expected 0 <= shard < shards_total <= 1024"):
        buckets_of(shard, total)


def test_a_subject_id_that_is_no_uuid() -> None:
    with pytest.raises(MessageError, match="subject id 'ann': is no UUID"):
        bucket_of("ann")
