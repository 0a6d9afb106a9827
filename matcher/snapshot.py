"""A shard follows the gallery in PostgreSQL change by change, and loads it (matcher/loading.py) where changes are missing."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog

from core.errors import SettingsError, UnavailableError
from core.ports import Database
from core.schema import Array, GalleryChange
from core.vault import Vault, label_of
from matcher.loading import CONNECTIONS, load_shard
from matcher.local import LocalShard
from matcher.shard import GenerationGapError

CHANNEL = "gallery"  # enrolment notifies it with the generation when a change commits
__all__ = ["catch_up", "follow_gallery", "load_shard"]

POLL_S = 1.0  # a lost notification delays a change by this much at most
CHANGES_AT_A_TIME = 500  # 1 MB of 512 floats

_GENERATION = "select generation from gallery_generation"
_CHANGES = """
select c.generation, c.action, c.collection, c.subject_id, c.reference_id,
       s.name, e.model, e.embedding, extract(epoch from s.ends_at)::float8 as expires_s,
       extract(epoch from s.valid_from)::float8 as starts_s
from (select * from gallery_change where generation > $1 order by generation limit $2) c
left join reference r on c.action = 'put' and r.reference_id = c.reference_id and r.subject_id = c.subject_id
left join subject s on s.subject_id = r.subject_id
left join reference_embedding e on e.reference_id = r.reference_id
order by c.generation, e.model
"""

_log = structlog.get_logger(__name__)


async def follow_gallery(db: Database, shard: LocalShard, *, poll_s: float = POLL_S, connections: int = CONNECTIONS) -> None:
    """Keep a shard up to date until cancelled: at each notification, and every poll_s seconds in case one was lost.

    While the database is away the shard answers with what it has. Loads the shard, by so many connections, where it was not loaded
    or changes are missing.
    """
    catching_up = partial(catch_up, db, shard, connections=connections)
    while True:
        try:
            async with db.listen(CHANNEL) as notifications:
                await _follow_connection(catching_up, aiter(notifications), poll_s)
        except UnavailableError as err:
            _log.warning("gallery can't be followed, trying again", reason=str(err), generation=shard.generation)
        await asyncio.sleep(poll_s)


async def catch_up(db: Database, shard: LocalShard, *, connections: int = CONNECTIONS) -> None:
    """Apply what the database has beyond the shard's generation; load the shard anew where that has a gap.

    Raises:
        UnavailableError: the database does not answer.
    """
    load = partial(load_shard, db, shard, connections=connections)
    if shard.generation < 0:
        await load()
    newest = int((await db.fetch(_GENERATION))[0]["generation"])
    if newest < shard.generation:
        await _reload(load, shard, f"the database is at generation {newest}, before the shard's: restored from a backup?")
    while shard.generation < newest:
        rows = await db.fetch(_CHANGES, shard.generation, CHANGES_AT_A_TIME)
        try:
            if not rows:
                raise GenerationGapError(f"no changes up to generation {newest}")
            await shard.apply(*(_change(row, db.vault) for row in rows))
        except GenerationGapError as err:
            await _reload(load, shard, str(err))


async def _reload(load: Callable[[], Awaitable[int]], shard: LocalShard, reason: str) -> None:
    _log.warning("loading the whole gallery again", reason=reason, generation=shard.generation)
    await load()


async def _follow_connection(catching_up: Callable[[], Awaitable[None]], notifications: Any, poll_s: float) -> None:
    """Catch up at once, then at each notification or poll, until the listening connection ends."""
    ended = object()
    waiting: asyncio.Future[Any] | None = None
    try:
        while True:
            await catching_up()
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


def _change(row: dict[str, Any], vault: Vault) -> GalleryChange:
    """Turn a change with the present state of its reference into a message; erased since then: a put without embedding.

    An embedding that can't be opened goes along without a number: the shard leaves it out and says so.
    """
    return GalleryChange(
        generation=row["generation"],
        action=row["action"],
        collection=row["collection"],
        subject_id=str(row["subject_id"]),
        subject=row["name"] or "",
        reference_id=str(row["reference_id"]),
        model=row["model"] or "",
        embedding=None if row["embedding"] is None else _opened(row, vault),
        expires_s=row["expires_s"],
        starts_s=row["starts_s"],
    )


def _opened(row: dict[str, Any], vault: Vault) -> Array:
    try:
        opened = vault.open(row["embedding"], label=label_of("embedding", row["reference_id"]))
    except SettingsError:
        opened = b""
    return Array("<f4", (len(opened) // 4,), opened)
