"""Ports shared by several rooms. A port has at most six methods and two adapters: in-process and real, chosen by URL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from core.types import F32, Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a log."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes


class Consumer(Protocol):
    """A member of a consumer group. Records of one partition come in order; what is not committed comes again."""

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return up to max_records, or none when the time is up. Raises UnavailableError."""
        ...

    async def commit(self, records: Sequence[Record]) -> None:
        """Mark records as finished, in any order; the offset moves over the contiguous finished ones."""
        ...

    async def dead_letter(self, record: Record, reason: str) -> None:
        """Put a record that can't be processed aside with its reason, and finish it."""
        ...


class Log(Protocol):
    """An ordered, partitioned, bounded log (in-process, or Kafka)."""

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        """Append and return once acknowledged; waits while the partition is full. Raises UnavailableError."""
        ...

    def consumer(self, topics: Sequence[str], group: str) -> AbstractAsyncContextManager[Consumer]:
        """Join a consumer group on some topics; ``frames.*`` means every topic that begins so, later ones included."""
        ...


class Database(Protocol):
    """PostgreSQL. SQL lives in the ``store.py`` of the room that owns the table; only the adapter knows asyncpg."""

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        """Run a query and return its rows. Raises UnavailableError, ConflictError (unique violation)."""
        ...

    async def execute(self, sql: str, *args: Any) -> int:
        """Run a statement and return the number of rows it touched."""
        ...

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each row, in one transaction."""
        ...

    def transaction(self) -> AbstractAsyncContextManager["Database"]:
        """Open a transaction; the yielded Database runs inside it; an exception rolls it back."""
        ...

    def stream(self, sql: str, *args: Any) -> AsyncIterator[dict[str, Any]]:
        """Iterate over a large result through a server-side cursor."""
        ...

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Receive the payloads of NOTIFY on a channel; the iterator ends when the connection is lost."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchAnswer:
    """Candidates for each probe of a search, gathered over all shards."""

    candidates: tuple[tuple[Candidate, ...], ...]
    generation: int
    shards_missing: int = 0
    references: int = 0
    """References each probe was compared with, over all shards that answered: the gallery size that a threshold needs."""


class Session(Protocol):
    """A loaded model. Detectors and embedders run through it, so that they know no runtime."""

    @property
    def provider(self) -> str:
        """Where it runs: ``cpu``, ``cuda``, ``tensorrt``."""
        ...

    def run(self, inputs: F32) -> list[NDArray[Any]]:
        """Run one NCHW batch; outputs in the graph's order. The input may be overwritten after the call returns. Raises ModelError."""
        ...


class Matcher(Protocol):
    """Who is this? Used alike by the recognizer, enrolment (lookalikes) and the API."""

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        """Return for each row of probes (N, D) float32, unit norm, up to k subjects, best first. Raises UnavailableError."""
        ...
