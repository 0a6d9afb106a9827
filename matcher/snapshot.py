"""A shard's way to PostgreSQL: load the gallery at one generation, then follow it change by change. All SQL of this room."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import structlog

from core.errors import MessageError, UnavailableError
from core.ports import Database
from core.schema import Array, GalleryChange
from core.types import F32
from matcher.gallery import BULK_ROWS, Gallery, ReferenceRow
from matcher.local import LocalShard
from matcher.shard import GenerationGapError

CHANNEL = "gallery"  # enrolment notifies it with the generation when a change commits
POLL_S = 1.0  # a lost notification delays a change by this much at most
CHANGES_AT_A_TIME = 500  # 1 MB of 512 floats

_GENERATION = "select generation from gallery_generation"
_ROWS = """
select s.collection, e.model, s.subject_id, s.name, r.reference_id, e.embedding, extract(epoch from s.expires_at)::float8 as expires_s
from reference_embedding e join reference r using (reference_id) join subject s using (subject_id)
"""
_CHANGES = """
select c.generation, c.action, c.collection, c.subject_id, c.reference_id,
       s.name, e.model, e.embedding, extract(epoch from s.expires_at)::float8 as expires_s
from (select * from gallery_change where generation > $1 order by generation limit $2) c
left join reference r on c.action = 'put' and r.reference_id = c.reference_id
left join subject s on s.subject_id = r.subject_id
left join reference_embedding e on e.reference_id = r.reference_id
order by c.generation, e.model
"""

_log = structlog.get_logger(__name__)


async def load_shard(db: Database, shard: LocalShard) -> int:
    """Fill a shard from the database and return the generation it is at; the old gallery answers until the new one is complete.

    Generation and rows are of one snapshot: both are read in one repeatable-read transaction.

    Raises:
        UnavailableError: the database does not answer. MessageError: a stored embedding is damaged; says which.
    """
    gallery = shard.empty_gallery()
    async with db.transaction() as snapshot:
        await snapshot.execute("set transaction isolation level repeatable read, read only")
        generation = int((await snapshot.fetch(_GENERATION))[0]["generation"])
        rows: list[ReferenceRow] = []
        async with contextlib.aclosing(snapshot.stream(_ROWS)) as stream:  # type: ignore[type-var]
            async for row in stream:
                if shard.owns(str(row["subject_id"])):
                    rows.append(_reference(row))
                if len(rows) == BULK_ROWS:
                    await _fill(shard, gallery, rows)
                    rows = []
        await _fill(shard, gallery, rows)
    await shard.replace(gallery, generation)
    _log.info("gallery loaded", generation=generation, references=sum(gallery.sizes().values()))
    return generation


async def follow_gallery(db: Database, shard: LocalShard, *, poll_s: float = POLL_S) -> None:
    """Keep a shard up to date until cancelled: at each notification, and every poll_s seconds in case one was lost.

    While the database is away the shard answers with what it has. Loads the shard where it was not loaded, or changes are missing.

    Raises:
        MessageError: a stored embedding is damaged; says which.
    """
    while True:
        try:
            async with db.listen(CHANNEL) as notifications:
                await _follow_connection(db, shard, aiter(notifications), poll_s)
        except UnavailableError as err:
            _log.warning("gallery can't be followed, trying again", reason=str(err), generation=shard.generation)
        await asyncio.sleep(poll_s)


async def catch_up(db: Database, shard: LocalShard) -> None:
    """Apply what the database has beyond the shard's generation; load the shard anew where that has a gap.

    Raises:
        UnavailableError: the database does not answer. MessageError: a stored embedding is damaged.
    """
    if shard.generation < 0:
        await load_shard(db, shard)
    newest = int((await db.fetch(_GENERATION))[0]["generation"])
    if newest < shard.generation:
        await _reload(db, shard, f"the database is at generation {newest}, before the shard's: restored from a backup?")
    while shard.generation < newest:
        rows = await db.fetch(_CHANGES, shard.generation, CHANGES_AT_A_TIME)
        try:
            if not rows:
                raise GenerationGapError(f"no changes up to generation {newest}")
            await shard.apply(*(_change(row) for row in rows))
        except GenerationGapError as err:
            await _reload(db, shard, str(err))


async def _reload(db: Database, shard: LocalShard, reason: str) -> None:
    _log.warning("loading the whole gallery again", reason=reason, generation=shard.generation)
    await load_shard(db, shard)


async def _follow_connection(db: Database, shard: LocalShard, notifications: Any, poll_s: float) -> None:
    """Catch up at once, then at each notification or poll, until the listening connection ends."""
    ended = object()
    waiting: asyncio.Future[Any] | None = None
    try:
        while True:
            await catch_up(db, shard)
            waiting = waiting or asyncio.ensure_future(anext(notifications, ended))
            done, _ = await asyncio.wait({waiting}, timeout=poll_s)
            if done and waiting.result() is ended:
                return
            if done:
                waiting = None
    finally:
        if waiting is not None:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting


async def _fill(shard: LocalShard, gallery: Gallery, rows: Sequence[ReferenceRow]) -> None:
    await shard.run(lambda: gallery.put(rows))


def _reference(row: dict[str, Any]) -> ReferenceRow:
    return ReferenceRow(
        collection=row["collection"],
        model=row["model"],
        subject_id=str(row["subject_id"]),
        subject=row["name"],
        reference_id=str(row["reference_id"]),
        embedding=_vector(row),
        expires_s=row["expires_s"],
    )


def _change(row: dict[str, Any]) -> GalleryChange:
    """Turn a change with the present state of its reference into a message; erased since then: a put without embedding."""
    return GalleryChange(
        generation=row["generation"],
        action=row["action"],
        collection=row["collection"],
        subject_id=str(row["subject_id"]),
        subject=row["name"] or "",
        reference_id=str(row["reference_id"]),
        model=row["model"] or "",
        embedding=None if row["embedding"] is None else Array.pack(_vector(row)),
        expires_s=row["expires_s"],
    )


def _vector(row: dict[str, Any]) -> F32:
    data = row["embedding"]
    if len(data) == 0 or len(data) % 4:
        raise MessageError(f"reference {row['reference_id']}: its embedding by {row['model']} has {len(data)} bytes: embed it again")
    return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
