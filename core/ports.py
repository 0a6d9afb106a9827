"""Ports shared by several rooms. A port has at most six methods and two adapters: in-process and real, chosen by URL."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from core.types import F32, Candidate
from core.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a log."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    """Marks beside the record, such as core.topology.REPLAY_HEADER; a dead letter keeps those of its record."""


Partition = tuple[str, int]
"""Topic and partition number."""

OnRevoked = Callable[[Sequence[Partition]], Awaitable[None]]
"""Told, on the event loop, which partitions went to another member; their records in flight are finished or handed back by then."""


class Consumer(Protocol):
    """A member of a consumer group. Records of one partition come in order; what is not committed comes again."""

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return up to max_records, or none when the time is up, or while the log is away: it comes back by itself."""
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
        """Append and return once acknowledged; waits while the partition is full.

        Raises:
            UnavailableError: not acknowledged in time. It may still arrive later: whoever publishes it again makes a duplicate.
            MessageError: larger than the log takes; trying again is of no use.
        """
        ...

    def consumer(self, topics: Sequence[str], group: str, *, on_revoked: OnRevoked | None = None) -> AbstractAsyncContextManager[Consumer]:
        """Join a consumer group on some topics; ``frames.*`` means every topic that begins so, later ones included.

        Leaving the block commits what is finished and hands the rest back. A commit of a partition that was revoked changes nothing.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """A queue as its consumer wants it; declared, with its bindings, again after each reconnection."""

    name: str
    """Empty = a queue of this subscription alone, gone with it; its server-given name is ``Subscription.name``."""
    kind: Literal["transient", "quorum"] = "transient"
    """``quorum`` survives the loss of a server; ``transient`` is faster and for what may be asked again."""
    bindings: tuple[tuple[str, Literal["fanout", "topic", "direct"], str], ...] = ()
    """(exchange, its type, routing key)."""
    prefetch: int = 32
    """Deliveries that may be unacknowledged at a time."""
    expires_s: float | None = None
    """A named queue without consumers goes after this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message of a queue."""

    body: bytes
    routing_key: str
    reply_to: str
    correlation_id: str
    redelivered: bool
    tag: tuple[int, int]
    """(connection number, delivery tag): an acknowledgement on a lost connection changes nothing, the message comes again."""


class Subscription(Protocol):
    """A consumer of one queue; goes on over reconnections."""

    @property
    def name(self) -> str:
        """The queue's name; of an unnamed queue it changes with each reconnection."""
        ...

    async def get(self) -> Delivery:
        """Return the next message, waiting for one."""
        ...

    def ack(self, delivery: Delivery) -> None:
        """Say that a message is done."""
        ...

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Give a message back, or away for good."""
        ...


class Broker(Protocol):
    """A message broker (in-process, or RabbitMQ)."""

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        reply_to: str = "",
        correlation_id: str = "",
        expires_s: float | None = None,
        confirm: bool = True,
    ) -> None:
        """Publish; with ``confirm`` return once the broker has it.

        Exchange "" sends to the queue that is called like the routing key. A message that reaches no queue is not an error.

        Raises:
            UnavailableError: no connection, not confirmed in time, or the broker blocks publishers.
        """
        ...

    def subscribe(self, queue: QueueSpec) -> AbstractAsyncContextManager[Subscription]:
        """Declare a queue with its exchanges and bindings, and consume it inside the block, over reconnections too.

        Raises:
            UnavailableError: no broker at the start.
        """
        ...

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when there is none. Raises UnavailableError."""
        ...


class Database(Protocol):
    """PostgreSQL. SQL lives in the ``store.py`` of the room that owns the table; only the adapter knows asyncpg."""

    @property
    def vault(self) -> Vault:
        """The keys of what is sealed in it: pictures and embeddings."""
        ...

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
class ObjectInfo:
    """An object of a store, without its content."""

    key: str
    size_bytes: int
    """As it is stored."""
    changed_at: datetime


class ObjectStore(Protocol):
    """Files by key (memory, a folder, or S3). Keys are relative paths with ``/`` between their parts, without ``.`` and ``..``."""

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> None:
        """Store an object whole or not at all, in place of one that is there; an error of ``chunks`` stores nothing and is raised.

        Raises:
            UnavailableError: the store does not answer. UsageError: the key can't be.
        """
        ...

    def read(self, key: str) -> AsyncIterator[bytes]:
        """Yield an object's content piece by piece. Raises NotFoundError, UnavailableError, UsageError."""
        ...

    async def info(self, key: str) -> ObjectInfo:
        """Return what is known of an object. Raises NotFoundError, UnavailableError, UsageError."""
        ...

    def under(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below a prefix, in no order. Raises UnavailableError, UsageError."""
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; it need not be there. Raises UnavailableError, UsageError."""
        ...

    async def presigned_put(self, key: str, expires_s: float) -> str | None:
        """Return a URL to which anybody may PUT this object until it expires; None when this store has no such thing."""
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
