"""Who is this? Scatters probes over the shards and gathers their candidates; what does not answer in time is counted, not waited for."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from core.errors import UnavailableError
from core.ports import MatchAnswer
from core.schema import Array, CandidateRow, ProbeBatch, ShardAnswer
from core.types import F32, Candidate, check_array

BATCH_PROBES = 64  # per message: 128 KB of 512 floats
TIMEOUT_S = 2.0


class ShardPort(Protocol):
    """One shard, wherever it runs."""

    async def ask(self, batch: ProbeBatch) -> ShardAnswer:
        """Search one batch. Raises UnavailableError, MessageError."""
        ...


class MatcherClient:
    """core.ports.Matcher over shards. Thread rule: one event loop; searches may run side by side."""

    def __init__(
        self, shards: Sequence[ShardPort], *, timeout_s: float = TIMEOUT_S, now_s: Callable[[], float] = time.time, name: str = "local"
    ) -> None:
        self._shards = tuple(shards)
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._ids = (f"{name}/{number}" for number in itertools.count())

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        """Return for each row of probes (N, D) float32, unit norm, up to k subjects, best first.

        No probes are a question too: how large is the gallery?

        Raises:
            UnavailableError: when no shard answers in time. MessageError: when the probes do not fit the model, or k the shards.
        """
        check_array("probes", probes, (None, None), np.float32)
        deadline_s = self._now_s() + self._timeout_s
        parts = [probes[first : first + BATCH_PROBES] for first in range(0, max(len(probes), 1), BATCH_PROBES)]
        asked = [
            ProbeBatch(batch_id=next(self._ids), model=model, collection=collection, probes=Array.pack(part), k=k, deadline_s=deadline_s)
            for part in parts
        ]
        answers = await self._gather(asked)
        missing = max(len(self._shards) - len(part) for part in answers)
        if missing == len(self._shards):
            raise UnavailableError(f"matcher: none of {len(self._shards)} shards answered within {self._timeout_s:g} s; is it loading?")
        return MatchAnswer(
            candidates=tuple(itertools.chain.from_iterable(merge(part, k) for part in answers)),
            generation=min(answer.generation for part in answers for answer in part),
            shards_missing=missing,
            references=min(sum(answer.references for answer in part) for part in answers),
        )

    async def _gather(self, batches: Sequence[ProbeBatch]) -> list[list[ShardAnswer]]:
        """Return for each batch the answers of the shards that gave one in time."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [[group.create_task(self._ask(shard, batch)) for shard in self._shards] for batch in batches]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors  # the same for every shard: the question makes no sense
        return [[answer for task in row if (answer := task.result()) is not None] for row in tasks]

    async def _ask(self, shard: ShardPort, batch: ProbeBatch) -> ShardAnswer | None:
        try:
            async with asyncio.timeout(batch.deadline_s - self._now_s()):
                return await shard.ask(batch)
        except (UnavailableError, TimeoutError):
            return None


def merge(answers: Sequence[ShardAnswer], k: int) -> tuple[tuple[Candidate, ...], ...]:
    """Merge the shards' candidates for one batch; pure.

    A subject counts once, with its best reference, also when several shards name it; equal scores go by subject id, so that the
    order of the answers does not matter.

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
