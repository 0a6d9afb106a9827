"""Which shard holds a subject: 1024 buckets of random subject ids, in contiguous runs per shard. Pure.

A bucket is the first ten bits of the subject's id, which is a random UUID: buckets are equally full, and the buckets of a shard are one
range of ids, so that a shard reads its part of the gallery from the database by the primary key.
"""

import uuid

from core.errors import MessageError

BUCKETS = 1024
_BITS = 10


def bucket_of(subject_id: str) -> int:
    """Return the bucket, 0..1023, of a subject.

    Raises:
        MessageError: the id is no UUID.
    """
    try:
        return uuid.UUID(subject_id).int >> (128 - _BITS)
    except ValueError as err:
        raise MessageError(f"subject id {subject_id[:80]!r}: is no UUID") from err


def buckets_of(shard: int, shards_total: int) -> range:
    """Return the buckets of a shard: runs whose lengths differ by one at most.

    Raises:
        ValueError: unless 0 <= shard < shards_total <= BUCKETS.
    """
    if not 0 <= shard < shards_total <= BUCKETS:
        raise ValueError(f"shard {shard} of {shards_total}: expected 0 <= shard < shards_total <= {BUCKETS}")
    return range(shard * BUCKETS // shards_total, (shard + 1) * BUCKETS // shards_total)


def ids_of(buckets: range) -> tuple[uuid.UUID, uuid.UUID]:
    """Return the first and the last subject id, both inclusive, of a run of buckets."""
    shift = 128 - _BITS
    return uuid.UUID(int=buckets.start << shift), uuid.UUID(int=(buckets.stop << shift) - 1)
