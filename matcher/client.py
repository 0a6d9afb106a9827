"""Who is this? Asks the shards of this process and gathers their candidates; what does not answer in time is counted, not waited for."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from core.errors import UnavailableError
from core.ports import MatchAnswer
from core.schema import Array, ProbeBatch, ShardAnswer
from core.types import F32, check_array
from matcher.gathering import Gathering, joined

BATCH_PROBES = 64  # per message: 128 KB of 512 floats
TIMEOUT_S = 2.0


class ShardPort(Protocol):
    """One shard, wherever it runs."""

    async def ask(self, batch: ProbeBatch) -> ShardAnswer:
        """Search one batch. Raises UnavailableError, MessageError."""
        ...


def batches_of(probes: F32) -> Iterator[F32]:
    """Cut probes (N, D) into pieces of BATCH_PROBES; no probes are one piece: how large is the gallery?

    Raises:
        ValueError: they are no float32 (N, D).
    """
    check_array("probes", probes, (None, None), np.float32)
    return (probes[first : first + BATCH_PROBES] for first in range(0, max(len(probes), 1), BATCH_PROBES))


class MatcherClient:
    """core.ports.Matcher over shards of this process. Thread rule: one event loop; searches may run side by side."""

    def __init__(self, shards: Sequence[ShardPort], *, timeout_s: float = TIMEOUT_S, name: str = "local") -> None:
        self._shards = tuple(shards)
        self._timeout_s = timeout_s
        self._ids = (f"{name}/{number}" for number in itertools.count())

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        """Return for each row of probes (N, D) float32, unit norm, up to k subjects, best first.

        No probes are a question too: how large is the gallery?

        Raises:
            UnavailableError: when no shard answers in time. MessageError: when the probes do not fit the model, or k the shards.
        """
        asked = [
            (
                ProbeBatch(
                    batch_id=next(self._ids), model=model, collection=collection, probes=Array.pack(part), k=k, timeout_s=self._timeout_s
                ),
                Gathering(probes=len(part), k=k),
            )
            for part in batches_of(probes)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for batch, gathering in asked:
                    for shard in self._shards:
                        group.create_task(self._ask(shard, batch, gathering))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors  # the same for every shard: the question makes no sense
        if not all(gathering.answered for _, gathering in asked):
            raise UnavailableError(f"matcher: none of {len(self._shards)} shards answered within {self._timeout_s:g} s; is it loading?")
        return joined([gathering.result() for _, gathering in asked])

    async def _ask(self, shard: ShardPort, batch: ProbeBatch, gathering: Gathering) -> None:
        try:
            async with asyncio.timeout(batch.timeout_s):
                gathering.add(await shard.ask(batch))
        except (UnavailableError, TimeoutError):
            pass
