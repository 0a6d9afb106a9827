"""Watchlists: sets of enrolled people of whom somebody wants to hear. The SQL of the tables ``watchlist`` and ``watchlist_subject``."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import ConflictError, NotFoundError, UsageError
from core.ports import Database
from sightings.record import parse_id

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SELECT = """
select w.watchlist_id, w.name, w.collection, w.enabled,
       (select count(*) from watchlist_subject l where l.watchlist_id = w.watchlist_id) as subjects
from watchlist w
"""
_MEMBERS = """
select s.subject_id, s.name from watchlist_subject l join subject s using (subject_id) where l.watchlist_id = $1 order by s.name
"""
_FIND = "select subject_id from subject where collection = $1 and (name = $2 or subject_id = $3)"
_PUT = "insert into watchlist_subject (watchlist_id, subject_id) select $1, unnest($2::uuid[]) on conflict do nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchlist:
    """A watchlist as people see it."""

    name: str
    collection: str
    enabled: bool
    """Whether it raises alerts."""
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A subject of a watchlist."""

    subject_id: str
    subject: str


class WatchlistStore:
    """Keeps the watchlists. Changes hold for what is stored from then on. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, name: str, *, collection: str) -> Watchlist:
        """Make a watchlist of subjects of a collection.

        Raises:
            UsageError: the name can't be. NotFoundError: no such collection. ConflictError: the name is taken.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"watchlist '{name[:80]}': expected 1 to 64 letters, digits, dots, underscores and dashes")
        if not await self._db.fetch("select from collection where name = $1", collection):
            raise NotFoundError(f"collection '{collection[:80]}': there is none; enrol somebody into it first")
        made = await self._db.execute("insert into watchlist (name, collection) values ($1, $2) on conflict do nothing", name, collection)
        if not made:
            raise ConflictError(f"watchlist '{name}': there is one of this name")
        return await self.get(name)

    async def watchlists(self) -> list[Watchlist]:
        """Return all watchlists by name."""
        return [_watchlist(row) for row in await self._db.fetch(_SELECT + "order by w.name")]

    async def get(self, name: str) -> Watchlist:
        """Return a watchlist. Raises NotFoundError."""
        return _watchlist((await self._row(name))[1])

    async def set_enabled(self, name: str, enabled: bool) -> Watchlist:
        """Let a watchlist raise alerts, or not. Raises NotFoundError."""
        key, _ = await self._row(name)
        await self._db.execute("update watchlist set enabled = $2 where watchlist_id = $1", key, enabled)
        return await self.get(name)

    async def remove(self, name: str) -> None:
        """Remove a watchlist; its alerts stay. Raises NotFoundError."""
        key, _ = await self._row(name)
        await self._db.execute("delete from watchlist where watchlist_id = $1", key)

    async def members(self, name: str) -> list[Member]:
        """Return the subjects of a watchlist by name. Raises NotFoundError."""
        key, _ = await self._row(name)
        rows = await self._db.fetch(_MEMBERS, key)
        return [Member(subject_id=str(row["subject_id"]), subject=row["name"]) for row in rows]

    async def put(self, name: str, subjects: Sequence[str]) -> int:
        """Put subjects, given by id or name, on a watchlist, all or none; return how many were not on it.

        Raises:
            NotFoundError: no such watchlist, or a subject that its collection does not have.
        """
        async with self._db.transaction() as tx:
            store = WatchlistStore(tx)
            key, row = await store._row(name)
            return await tx.execute(_PUT, key, await store._subject_ids(subjects, row["collection"]))

    async def take(self, name: str, subjects: Sequence[str]) -> int:
        """Take subjects, given by id or name, off a watchlist, all or none; return how many were on it.

        Raises:
            NotFoundError: no such watchlist, or a subject that its collection does not have.
        """
        async with self._db.transaction() as tx:
            store = WatchlistStore(tx)
            key, row = await store._row(name)
            ids = await store._subject_ids(subjects, row["collection"])
            return await tx.execute("delete from watchlist_subject where watchlist_id = $1 and subject_id = any($2::uuid[])", key, ids)

    async def _row(self, name: str) -> tuple[uuid.UUID, dict[str, Any]]:
        rows = [] if "\x00" in name else await self._db.fetch(_SELECT + "where w.name = $1", name)
        if not rows:
            raise NotFoundError(f"watchlist '{name[:80]}': there is none; 'sightline watchlists list' shows which there are")
        return rows[0]["watchlist_id"], rows[0]

    async def _subject_ids(self, subjects: Sequence[str], collection: str) -> list[uuid.UUID]:
        found: list[uuid.UUID] = []
        for subject in subjects:
            rows = [] if "\x00" in subject else await self._db.fetch(_FIND, collection, subject, parse_id(subject))
            if not rows:
                raise NotFoundError(f"subject '{subject[:80]}': collection {collection} has none of this name or id; nothing was changed")
            found += [row["subject_id"] for row in rows]
        return found


def _watchlist(row: dict[str, Any]) -> Watchlist:
    return Watchlist(name=row["name"], collection=row["collection"], enabled=row["enabled"], subjects=row["subjects"])
