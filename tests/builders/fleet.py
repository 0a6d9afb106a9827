"""Galleries divided over shards, for tests of scatter and gather."""

import asyncio
import contextlib
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from core.metrics import Metrics
from core.ports import Broker, Database, QueueSpec, Subscription
from core.schema import CandidateRow, ShardAnswer
from core.topology import ShardId
from core.types import F32
from core.vault import seal_embedding
from matcher.buckets import BUCKETS
from matcher.gallery import ReferenceRow
from matcher.local import open_local_shard
from matcher.numpy_index import NumpyIndex
from matcher.presence import Presence
from matcher.remote import RemoteMatcher, open_remote_matcher
from matcher.service import MatcherService
from matcher.shard import Shard
from matcher.snapshot import CHANNEL
from tests.builders.matcher import MODEL


def subject_id(bucket: int, number: int = 0) -> str:
    """Return the id of a subject in a bucket."""
    return str(uuid.UUID(int=(bucket << 118) + number))


def person(number: int, vector: F32, *, people: int = BUCKETS) -> ReferenceRow:
    """Return the one reference of person ``number`` of ``people``, who are spread evenly over the buckets."""
    one = subject_id(number * BUCKETS // people, number)
    return ReferenceRow(
        collection="default",
        model=MODEL,
        subject_id=one,
        subject=f"P{number}",
        reference_id=str(uuid.UUID(int=number + 1)),
        embedding=vector,
    )


def people(vectors: F32) -> list[ReferenceRow]:
    """Return one person for each vector, spread evenly over the buckets."""
    return [person(number, vector, people=len(vectors)) for number, vector in enumerate(vectors)]


def loaded_shard(rows: Sequence[ReferenceRow], shard: int = 0, shards_total: int = 1, *, generation: int = 3) -> Shard:
    """Return a shard that holds its part of these references, with the oracle's index."""
    made = Shard(shard=shard, shards_total=shards_total, new_index=NumpyIndex)
    made.load(rows, generation)
    return made


def shard_answer(shard: ShardId, rows: Sequence[Sequence[tuple[str, float]]] = (), /, **changes: object) -> ShardAnswer:
    """Return an answer: for each probe (subject id, score)."""
    given: dict[str, object] = {
        "batch_id": "b",
        "shard": shard.shard,
        "shards_total": shard.shards_total,
        "generation": 3,
        "candidates": tuple(tuple(CandidateRow(one, one.upper(), f"{one}/0", score) for one, score in of_probe) for of_probe in rows),
    }
    return ShardAnswer(**(given | changes))  # type: ignore[arg-type]


async def enrol(db: Database, rows: Sequence[ReferenceRow]) -> int:
    """Enrol references as enrollment/ does, one generation each, in one transaction; return the last generation."""
    async with db.transaction() as tx:
        last = (await tx.fetch("update gallery_generation set generation = generation + $1 returning generation", len(rows)))[0][
            "generation"
        ]
        await tx.executemany(
            "insert into subject (subject_id, collection, name) values ($1, $2, $3) on conflict do nothing",
            [(row.subject_id, row.collection, row.subject) for row in rows],
        )
        await tx.executemany(
            "insert into reference (reference_id, subject_id, content_sha256, source, face_jpeg, landmarks, quality) "
            "values ($1, $2, '\\x00', 'photo', '\\x00', array_fill(0::real, array[10]), 1)",
            [(row.reference_id, row.subject_id) for row in rows],
        )
        await tx.executemany(
            "insert into reference_embedding values ($1, $2, $3)",
            [(row.reference_id, row.model, seal_embedding(tx.vault, row.reference_id, row.embedding)) for row in rows],
        )
        await tx.executemany(
            "insert into gallery_change (generation, action, collection, subject_id, reference_id) values ($1, 'put', $2, $3, $4)",
            [(last - len(rows) + number, row.collection, row.subject_id, row.reference_id) for number, row in enumerate(rows, 1)],
        )
        await tx.execute("select pg_notify($1, $2)", CHANNEL, str(last))
    return int(last)


async def erase(db: Database, row: ReferenceRow) -> int:
    """Erase a reference with its subject as enrollment/ does; return the generation without it."""
    async with db.transaction() as tx:
        last = (await tx.fetch("update gallery_generation set generation = generation + 1 returning generation"))[0]["generation"]
        await tx.execute(
            "insert into gallery_change (generation, action, collection, subject_id, reference_id) values ($1, 'delete', $2, $3, $4)",
            last,
            row.collection,
            row.subject_id,
            row.reference_id,
        )
        await tx.execute("delete from subject where subject_id = $1", row.subject_id)
        await tx.execute("select pg_notify($1, $2)", CHANNEL, str(last))
    return int(last)


class Apart:
    """A Broker whose exchanges and shard queues no other test sees. Adapter of core.ports.Broker over another one."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self._broker = broker
        self._prefix = prefix

    async def publish(self, exchange: str, routing_key: str, body: bytes, **how: Any) -> None:
        if exchange:
            await self._broker.publish(self._prefix + exchange, routing_key, body, **how)
        else:
            await self._broker.publish("", self._queue(routing_key), body, **how)

    def subscribe(self, queue: QueueSpec) -> AbstractAsyncContextManager[Subscription]:
        bindings = tuple((self._prefix + exchange, kind, key) for exchange, kind, key in queue.bindings)
        return self._broker.subscribe(dataclasses.replace(queue, name=self._queue(queue.name), bindings=bindings))

    async def depth(self, queue: str) -> int:
        return await self._broker.depth(self._queue(queue))

    def _queue(self, name: str) -> str:
        return self._prefix + name if name.startswith("match.") else name


@dataclass(frozen=True)
class Fleet:
    """Matchers over one broker and one database; each matcher and each asker has a connection of its own."""

    db: Database
    connect: Callable[[], AbstractAsyncContextManager[Broker]]

    @asynccontextmanager
    async def asker(self, *, timeout_s: float = 5.0, metrics: Metrics | None = None) -> AsyncIterator[RemoteMatcher]:
        async with self.connect() as broker, open_remote_matcher(broker, timeout_s=timeout_s, metrics=metrics) as matcher:
            yield matcher

    @asynccontextmanager
    async def matcher(
        self, shard: int, shards_total: int, *, metrics: Metrics | None = None, name: str = "", now_s: Callable[[], float] = time.time
    ) -> AsyncIterator[MatcherService]:
        """A replica of a shard that takes probes inside the block; leaving it drains it."""
        metrics, shard_id = metrics or Metrics(), ShardId(shards_total=shards_total, shard=shard)
        made = Shard(shard=shard, shards_total=shards_total, new_index=NumpyIndex)
        async with self.connect() as broker, open_local_shard(made, metrics=metrics, now_s=now_s) as local:
            service = MatcherService(
                db=self.db,
                shard=local,
                broker=broker,
                shard_id=shard_id,
                presence=Presence(self.db, local, shard_id, name=name or f"{shard_id.label} {id(local)}"),
                metrics=metrics,
            )
            running = asyncio.ensure_future(service.run())
            try:
                while await service.check():
                    assert not running.done() or running.result()
                    await asyncio.sleep(0.01)
                yield service
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
