"""The answers of shards to one batch become one answer: in any order, some twice, some of another layout, some never. Pure."""

import functools
import itertools
from collections.abc import Collection, Iterable, Sequence

from core.errors import MessageError
from core.ports import MatchAnswer
from core.schema import CandidateRow, ShardAnswer
from core.topology import ShardId
from core.types import Candidate
from matcher.buckets import BUCKETS, buckets_of

ALL_BUCKETS = (1 << BUCKETS) - 1


@functools.lru_cache(maxsize=4096)
def coverage(shard: ShardId) -> int:
    """Return the buckets of a shard as bits: bit b is set when bucket b is the shard's.

    Raises:
        ValueError: a layout of more shards than buckets.
    """
    run = buckets_of(shard.shard, shard.shards_total)
    return ((1 << len(run)) - 1) << run.start


def covered_by(shards: Iterable[ShardId]) -> int:
    """Return the buckets, as bits, that some shards hold together."""
    return functools.reduce(lambda bits, shard: bits | coverage(shard), shards, 0)


def layout(shards_total: int) -> tuple[ShardId, ...]:
    """Return all shards of a layout."""
    return tuple(ShardId(shards_total=shards_total, shard=number) for number in range(shards_total))


def missing_from(shards: Collection[ShardId]) -> tuple[ShardId, ...]:
    """Return the shards that would have to come to make these complete, of the layout that needs the fewest; none when they are complete.

    A shard whose buckets others cover is not missing. Of no shards nothing is known: none.
    """
    covered = covered_by(shards)
    totals = sorted({shard.shards_total for shard in shards})
    lacking = [tuple(shard for shard in layout(total) if coverage(shard) & ~covered) for total in totals]
    return min(lacking, key=len, default=())


def shard_of(answer: ShardAnswer) -> ShardId:
    """Return which shard an answer is of.

    Raises:
        MessageError: there is no such shard.
    """
    try:
        shard = ShardId(shards_total=answer.shards_total, shard=answer.shard)
        coverage(shard)
    except ValueError as err:
        raise MessageError(f"ShardAnswer {answer.batch_id[:80]}: {err}") from err
    return shard


class Gathering:
    """The answers to one batch so far. Complete as soon as the shards that answered hold every bucket, of whichever layouts they are."""

    def __init__(self, *, probes: int, k: int) -> None:
        self._probes = probes
        self._k = k
        self._answers: dict[ShardId, ShardAnswer] = {}
        self._covered = 0

    def add(self, answer: ShardAnswer) -> bool:
        """Take an answer; return False for a shard's second one, which changes nothing.

        Raises:
            MessageError: it is no answer to this batch.
        """
        shard = shard_of(answer)
        if len(answer.candidates) != self._probes:
            raise MessageError(f"ShardAnswer {answer.batch_id[:80]}: {len(answer.candidates)} rows for {self._probes} probes")
        if shard in self._answers:
            return False
        self._answers[shard] = answer
        self._covered |= coverage(shard)
        return True

    @property
    def answered(self) -> Collection[ShardId]:
        """The shards that answered."""
        return self._answers.keys()

    @property
    def complete(self) -> bool:
        """Every bucket was searched."""
        return self._covered == ALL_BUCKETS

    def lacks(self, shard: ShardId) -> bool:
        """Return whether a shard's answer would add buckets that nobody has searched yet."""
        return bool(coverage(shard) & ~self._covered)

    def result(self) -> MatchAnswer:
        """Return what is there; at least one answer must be.

        ``generation`` is the oldest of all answers. ``references`` counts every bucket once: the layout that covers most comes first,
        others add their share of the buckets that it leaves; exact unless shards of two layouts overlap.
        """
        newest_first = sorted(self._answers.items(), key=lambda item: (-item[1].generation, item[0]))
        return MatchAnswer(
            candidates=merge([answer for _, answer in newest_first], self._k),
            generation=newest_first[-1][1].generation,
            shards_missing=0 if self.complete else len(missing_from(self._answers)),
            references=self._references(),
        )

    def _references(self) -> int:
        if len({shard.shards_total for shard in self._answers}) == 1:  # one layout: no two hold the same
            return sum(answer.references for answer in self._answers.values())
        covers = {
            total: covered_by(shard for shard in self._answers if shard.shards_total == total).bit_count()
            for total in {shard.shards_total for shard in self._answers}
        }
        counted, references = 0, 0.0
        for shard in sorted(self._answers, key=lambda shard: (-covers[shard.shards_total], shard)):
            new = coverage(shard) & ~counted
            references += self._answers[shard].references * new.bit_count() / coverage(shard).bit_count()
            counted |= new
        return round(references)


def joined(parts: Sequence[MatchAnswer]) -> MatchAnswer:
    """Join the answers to consecutive parts of one question: the oldest generation, the most missing, the fewest references."""
    return MatchAnswer(
        candidates=tuple(itertools.chain.from_iterable(part.candidates for part in parts)),
        generation=min(part.generation for part in parts),
        shards_missing=max(part.shards_missing for part in parts),
        references=min(part.references for part in parts),
    )


def merge(answers: Sequence[ShardAnswer], k: int) -> tuple[tuple[Candidate, ...], ...]:
    """Merge the shards' candidates for one batch.

    A subject counts once, with its best reference, also when several shards name it; equal scores go by subject id, so that the
    order of the answers does not matter. Where two name the same reference differently, the earlier answer counts.

    Args:
        answers: at least one, all to the same batch.
        k: subjects per probe.

    Returns:
        For each probe up to k candidates, best first, ranks from 1.
    """
    return tuple(
        _merge_probe([row for rows in of_probe for row in rows], k) for of_probe in zip(*(a.candidates for a in answers), strict=True)
    )


def _merge_probe(rows: list[CandidateRow], k: int) -> tuple[Candidate, ...]:
    rows.sort(key=lambda row: (-row.score, row.subject_id, row.reference_id))
    best: dict[str, CandidateRow] = {}
    for row in rows:
        best.setdefault(row.subject_id, row)
    return tuple(
        Candidate(subject_id=row.subject_id, subject=row.subject, reference_id=row.reference_id, score=row.score, rank=rank)
        for rank, row in enumerate(itertools.islice(best.values(), k), start=1)
    )
