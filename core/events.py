"""The log of what happened, for live streams, webhooks and MQTT: written in the transaction that made it true, read in order by id.

Events name rows by id and carry nothing of a person: readers look the rows up when they deliver, so an erasure is in effect for events
that were not delivered yet, and for those that are delivered again. The SQL of the tables ``event``, ``event_floor``, ``event_reader``.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

import structlog

from core.errors import UnavailableError
from core.ports import Database

CHANNEL = "event"
"""Of NOTIFY, for each commit with events."""
EventKind = Literal["sighting", "alert", "camera", "job", "gallery", "person"]
KINDS: tuple[EventKind, ...] = get_args(EventKind)
PAGE = 500  # events that are read at once
RETRY_S = 1.0

# Ids must follow the order of commits, or a reader that has seen 7 misses a 6 that commits later: writers take turns until they commit.
# A trigger does that when the transaction commits (deploy/migrations/0015_events.sql).
_ADD = """
insert into event_intent (kind, key, revision, camera, collection, watchlist, news)
select $1, t.key, t.revision, t.camera, t.collection, t.watchlist, t.news
from unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::boolean[])
    with ordinality t (key, revision, camera, collection, watchlist, news, number)
order by t.number
"""
_COLUMNS = "event_id, at, kind, key, revision, camera, collection, watchlist, news"
_READ = f"select {_COLUMNS} from event where event_id > $1 order by event_id limit $2"
_BOUNDS = """
select floor, greatest(floor, (select max(event_id) from event)) as newest
from (select coalesce((select event_id from event_floor), 0) as floor) f
"""
_EXPIRE = """
with gone as (delete from event where at < now() - $1::interval returning event_id),
raised as (
    insert into event_floor (event_id) select max(event_id) from gone having count(*) > 0
    on conflict (single) do update set event_id = greatest(event_floor.event_id, excluded.event_id))
select count(*) as n from gone
"""
_TAKE = """
insert into event_reader (name, event_id, holder, held_until) values ($1, $4, $2, now() + $3::interval)
on conflict (name) do update set holder = $2, held_until = now() + $3::interval
    where event_reader.holder = $2 or event_reader.held_until < now()
returning event_id
"""
_ADVANCE = """
update event_reader set event_id = greatest(event_id, $3), held_until = greatest(held_until, now() + $4::interval)
where name = $1 and holder = $2
"""
_LEAVE = "update event_reader set held_until = now() - interval '1 s' where name = $1 and holder = $2"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A row of which something is told."""

    key: str
    """Its id."""
    revision: int
    """Its revision or version."""
    camera: str | None = None
    """Where, if it is about one: who may not see the camera is not told."""
    collection: str | None = None
    """Of the gallery, likewise."""
    watchlist: str | None = None
    """Likewise."""
    news: bool = True
    """False: somebody who knows the row learns nothing but newer figures (a face that is still there)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Told):
    """An event as it is read."""

    event_id: int
    """Grows in the order in which events became true."""
    at: datetime
    kind: EventKind


async def tell(
    tx: Database,
    kind: EventKind,
    keys: list[tuple[str, int]],
    *,
    camera: str | None = None,
    collection: str | None = None,
    watchlist: str | None = None,
) -> None:
    """Add events when the transaction commits.

    Args:
        tx: the transaction that makes it true.
        kind: of all of them.
        keys: (id of the row, its revision or version).
        camera: where, if it is about one: who may not see the camera is not told.
        collection: of the gallery, likewise.
        watchlist: likewise.
    """
    rows = [Told(key=key, revision=revision, camera=camera, collection=collection, watchlist=watchlist) for key, revision in keys]
    await tell_each(tx, kind, rows)


async def tell_each(tx: Database, kind: EventKind, rows: Sequence[Told]) -> None:
    """Add events of rows of different places, as :func:`tell`."""
    if rows:
        columns = ("key", "revision", "camera", "collection", "watchlist", "news")
        await tx.execute(_ADD, kind, *([getattr(row, column) for row in rows] for column in columns))


async def read_events(db: Database, after: int, *, limit: int = PAGE) -> list[Event]:
    """Return the next events behind an id."""
    return [Event(**row) for row in await db.fetch(_READ, after, limit)]


async def event_bounds(db: Database) -> tuple[int, int]:
    """Return the newest id that is not kept any more, and the newest id of all; whoever has read less than the first has missed some."""
    row = (await db.fetch(_BOUNDS))[0]
    return row["floor"], row["newest"]


async def expire_events(db: Database, keep: timedelta) -> int:
    """Delete what is older, and return how many that were."""
    return int((await db.fetch(_EXPIRE, keep))[0]["n"])


async def watch_events(db: Database, changed: asyncio.Event) -> None:
    """Set ``changed`` whenever something was told, until cancelled; also whenever listening begins anew, for something may have been."""
    while True:
        try:
            async with db.listen(CHANNEL) as notes:
                changed.set()
                async for _ in notes:
                    changed.set()
        except UnavailableError as err:
            _log.warning("events can't be followed, trying again", reason=str(err))
        await asyncio.sleep(RETRY_S)


async def follow_events(db: Database, after: int) -> AsyncGenerator[list[Event]]:
    """Yield the events behind an id as they come, a page at a time; ends when the database's connection is lost. Close it (``aclosing``).

    Raises:
        UnavailableError: the database does not answer.
    """
    async with db.listen(CHANNEL) as notes:
        while True:
            while events := await read_events(db, after):
                yield events
                after = events[-1].event_id
            if await anext(notes, None) is None:
                return


class EventReader:
    """A reader of which there is one at a time in the whole fleet, and whose place survives it: a lease with an offset.

    Thread rule: one event loop; any number of processes ask for the lease, one has it.
    """

    def __init__(self, db: Database, name: str, *, lease: timedelta = timedelta(seconds=15)) -> None:
        self._db, self.name, self._lease = db, name, lease
        self._holder = uuid.uuid4()

    async def take(self) -> int | None:
        """Take or renew the lease; return the id up to which everything is done, None when somebody else is the reader.

        The first reader of a name begins with what is told from now on. Raises UnavailableError.
        """
        _, newest = await event_bounds(self._db)
        rows = await self._db.fetch(_TAKE, self.name, self._holder, self._lease, newest)
        return rows[0]["event_id"] if rows else None

    async def done(self, event_id: int) -> bool:
        """Note that everything up to an id is done; False when the lease went to somebody else meanwhile. Raises UnavailableError."""
        return bool(await self._db.execute(_ADVANCE, self.name, self._holder, event_id, self._lease))

    async def leave(self) -> None:
        """Give the lease back, so that another process goes on at once. Raises UnavailableError."""
        await self._db.execute(_LEAVE, self.name, self._holder)
