"""A shard filled from PostgreSQL: several connections read one snapshot, each its parts of the shard's subjects, as whole arrays."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import numpy as np
import structlog

from core.errors import SettingsError
from core.ports import Database
from core.runner import first_error
from core.vault import OVERHEAD_BYTES, Vault
from matcher.buckets import ids_of
from matcher.gallery import BULK_ROWS, Gallery, ReferenceBlock
from matcher.ids import ids_of_bytes
from matcher.local import LocalShard
from matcher.memory import give_back

CONNECTIONS: Final = 4
OnProgress = Callable[[int, int], None]
"""Is told how many embeddings are loaded, and of how many."""

_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=(1 << 128) - 1)
_GENERATION: Final = "select generation from gallery_generation"
_SNAPSHOT: Final = "select pg_export_snapshot() as id"
_BUCKET: Final = "(get_byte(uuid_send(r.subject_id), 0) << 2) + (get_byte(uuid_send(r.subject_id), 1) >> 6)"
_COUNTS: Final = f"""
select s.collection, e.model, {_BUCKET} as bucket, octet_length(e.embedding) as bytes, count(*)::int as count
from reference_embedding e join reference r using (reference_id) join subject s using (subject_id)
where r.subject_id between $1 and $2 and s.subject_id between $1 and $2
group by 1, 2, 3, 4
"""
# One row of arrays instead of thousands of rows: a reference then costs this process 1 us instead of 10.
_PART: Final = """
select s.collection, e.model, octet_length(e.embedding) as bytes, count(*)::int as count,
       string_agg(e.embedding, ''::bytea) as embeddings,
       string_agg(uuid_send(r.reference_id), ''::bytea) as reference_ids,
       string_agg(uuid_send(r.subject_id), ''::bytea) as subject_ids,
       array_agg(s.name) as names,
       array_agg(coalesce(extract(epoch from s.ends_at)::float8, 'infinity')) as expires_s,
       array_agg(coalesce(extract(epoch from s.valid_from)::float8, '-infinity')) as starts_s
from reference_embedding e join reference r using (reference_id) join subject s using (subject_id)
where r.subject_id between $1 and $2 and s.subject_id between $1 and $2 and r.reference_id between $3 and $4
group by 1, 2, 3
"""
# A part is a small share of the tables, also where the planner has no statistics yet: never read all of a table for each part.
_BY_KEY: Final = "set local enable_seqscan = off; set local enable_mergejoin = off"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Embeddings to read at once: those of a run of subjects, and of a run of references, both inclusive."""

    subjects: tuple[UUID, UUID]
    references: tuple[UUID, UUID] = (_FIRST_ID, _LAST_ID)


async def load_shard(db: Database, shard: LocalShard, *, connections: int = CONNECTIONS, on_progress: OnProgress | None = None) -> int:
    """Fill a shard from the database and return the generation it is at; the old gallery answers until the new one is complete.

    All connections read the snapshot of the first, so generation and embeddings belong together. Until the new gallery is
    complete both are in memory: a reload takes twice what the shard has.

    Args:
        db: whose pool has at least two connections more than are used here, for other work.
        shard: reads its part of the subjects and nothing else.
        connections: at least 1.
        on_progress: told after each part, and at the start.

    Raises:
        UnavailableError: the database does not answer, or the disk is full (storage int8).
    """
    started_s = time.perf_counter()
    try:
        gallery, generation, total = await _read(db, shard, connections, on_progress)
    except BaseExceptionGroup as failed:
        raise first_error(failed) from failed
    await shard.replace(gallery, generation)
    await shard.run(give_back)
    seconds = time.perf_counter() - started_s
    shard.tell_load(seconds)
    _log.info("gallery loaded", generation=generation, embeddings=total, seconds=round(seconds, 1))
    return generation


async def _read(db: Database, shard: LocalShard, connections: int, on_progress: OnProgress | None) -> tuple[Gallery, int, int]:
    """Return a new gallery, its generation, and how many embeddings there are."""
    gallery = shard.empty_gallery()
    async with _snapshot(db, "") as first:
        generation = int((await first.fetch(_GENERATION))[0]["generation"])
        snapshot = str((await first.fetch(_SNAPSHOT))[0]["id"])
        counts = await first.fetch(_COUNTS, *ids_of(shard.buckets))
        lengths = _lengths(counts)
        for (collection, model), references in _slices(counts, lengths).items():
            dimensions = (lengths[model] - OVERHEAD_BYTES) // 4
            await shard.run(_reserving(gallery, collection, model, dimensions=dimensions, references=references))
        by_bucket: Counter[int] = Counter()
        for row in counts:
            by_bucket[row["bucket"]] += row["count"]
        loading = _Loading(db.vault, shard, gallery, lengths, deque(parts_of(by_bucket)), by_bucket.total(), on_progress)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(connections, len(loading.parts)) - 1):
                group.create_task(_read_beside(db, snapshot, loading))
            await loading.read(first)
    return gallery, generation, loading.total


def parts_of(by_bucket: Mapping[int, int], size: int = BULK_ROWS) -> Iterator[Part]:
    """Divide buckets, with the number of embeddings in each, into parts of about ``size``: runs of small buckets, shares of large ones."""
    run: list[int] = []
    held = 0
    for bucket in sorted(by_bucket):
        count = by_bucket[bucket]
        if run and held + count > size:
            yield Part(subjects=ids_of(range(run[0], run[-1] + 1)))
            run, held = [], 0
        if count > 2 * size:
            shares = -(-count // size)
            edges = [(share << 128) // shares for share in range(shares + 1)]
            for first, last in pairwise(edges):
                yield Part(subjects=ids_of(range(bucket, bucket + 1)), references=(UUID(int=first), UUID(int=last - 1)))
        else:
            run.append(bucket)
            held += count
    if run:
        yield Part(subjects=ids_of(range(run[0], run[-1] + 1)))


@dataclass(slots=True)
class _Loading:
    """A load under way. Thread rule: one event loop."""

    vault: Vault
    shard: LocalShard
    gallery: Gallery
    lengths: dict[str, int]
    parts: deque[Part]
    total: int
    on_progress: OnProgress | None
    loaded: int = 0

    async def read(self, connection: Database) -> None:
        """Take parts until none is left."""
        await connection.execute(_BY_KEY)
        self._tell()
        while self.parts:
            part = self.parts.popleft()
            for row in await connection.fetch(_PART, *part.subjects, *part.references):
                await self.shard.run(lambda row=row: self._put(row))  # type: ignore[misc]
                self.loaded += row["count"]
                self._tell()

    def _put(self, row: Mapping[str, Any]) -> None:
        length = row["bytes"]
        sound = length == self.lengths.get(row["model"])
        vectors, closed = self._open(row) if sound else (np.zeros((row["count"], 0), np.float32), [])
        block = ReferenceBlock(
            collection=row["collection"],
            model=row["model"],
            subject_ids=ids_of_bytes(row["subject_ids"]),
            subjects=row["names"],
            reference_ids=ids_of_bytes(row["reference_ids"]),
            expires_s=np.array(row["expires_s"], np.float64),
            starts_s=np.array(row["starts_s"], np.float64),
            embeddings=vectors,
        )
        if closed:
            self.gallery.leave_out(block.take(np.array(closed)), "can't be opened: another key has sealed it, or it is damaged")
            block = block.take(np.setdiff1d(np.arange(row["count"]), closed))
        if sound:
            self.gallery.put_block(block)
        else:
            self.gallery.leave_out(block, f"has {length} bytes, expected {self.lengths.get(row['model'], 'a multiple of 4')}")

    def _open(self, row: Mapping[str, Any]) -> tuple["np.ndarray[Any, np.dtype[np.float32]]", list[int]]:
        """Return the embeddings (n, D) of a row of arrays, and which of them can't be opened; these are zero."""
        sealed, ids, length = row["embeddings"], row["reference_ids"].hex(), row["bytes"]
        vectors = np.zeros((row["count"], (length - OVERHEAD_BYTES) // 4), np.float32)
        closed = []
        for place in range(row["count"]):
            try:
                label = f"embedding {ids[32 * place : 32 * place + 32]}"  # as core.vault.label_of
                opened = self.vault.open(sealed[place * length : (place + 1) * length], label=label)
            except SettingsError:
                closed.append(place)
            else:
                vectors[place] = np.frombuffer(opened, "<f4")
        return vectors, closed

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.loaded, self.total)


async def _read_beside(db: Database, snapshot: str, loading: _Loading) -> None:
    async with _snapshot(db, snapshot) as connection:
        await loading.read(connection)


@asynccontextmanager
async def _snapshot(db: Database, of: str) -> AsyncIterator[Database]:
    """Open a transaction that sees one state of the database throughout: that of an exported snapshot, or the present one."""
    async with db.transaction() as tx:
        await tx.execute("set transaction isolation level repeatable read, read only")
        if of:
            await tx.execute(f"set transaction snapshot '{of}'")
        yield tx


def _lengths(counts: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many bytes an embedding of each model has: what most of them have, for some may be damaged."""
    lengths: dict[str, Counter[int]] = {}
    for row in counts:
        if row["bytes"] > OVERHEAD_BYTES and (row["bytes"] - OVERHEAD_BYTES) % 4 == 0:
            lengths.setdefault(row["model"], Counter())[row["bytes"]] += row["count"]
    return {model: found.most_common(1)[0][0] for model, found in lengths.items()}


def _slices(counts: list[dict[str, Any]], lengths: dict[str, int]) -> Counter[tuple[str, str]]:
    slices: Counter[tuple[str, str]] = Counter()
    for row in counts:
        if row["bytes"] == lengths.get(row["model"]):
            slices[row["collection"], row["model"]] += row["count"]
    return slices


def _reserving(gallery: Gallery, collection: str, model: str, *, dimensions: int, references: int) -> Callable[[], None]:
    return lambda: gallery.reserve(collection, model, dimensions=dimensions, references=references)
