"""Collections: galleries with a name. The SQL of the table ``collection``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from core.errors import ConflictError, NotFoundError, StaleError
from core.events import tell
from core.ports import Database
from enrollment.record import check_attributes, check_collection, check_text

_SELECT = """
select c.name, c.description, c.attributes, c.created_at, c.version,
       (select count(*) from subject s where s.collection = c.name) as subjects,
       (select count(*) from subject s join reference r using (subject_id) where s.collection = c.name) as "references"
from collection c
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A gallery."""

    name: str
    description: str
    attributes: dict[str, Any]
    created_at: datetime
    version: int
    subjects: int
    references: int


class CollectionChange(TypedDict, total=False):
    """What to change of a collection: what is absent stays, None clears."""

    description: str | None
    attributes: Mapping[str, Any] | None
    """Merged one by one; a value of None takes the attribute away."""


class CollectionStore:
    """Keeps the collections. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def page(self, granted: Sequence[str] | None, *, after: str = "", limit: int) -> list[Collection]:
        """Return collections by name: those that sort after ``after``, of these or (None) of all."""
        rows = await self._db.fetch(
            _SELECT + "where ($1::text[] is null or c.name = any($1)) and c.name > $2 order by c.name limit $3",
            None if granted is None else list(granted),
            after,
            limit,
        )
        return [Collection(**row) for row in rows]

    async def get(self, name: str) -> Collection:
        """Return a collection. Raises NotFoundError."""
        rows = await self._db.fetch(_SELECT + "where c.name = $1", name)
        if not rows:
            raise no_collection(name)
        return Collection(**rows[0])

    async def add(self, name: str, *, description: str = "", attributes: Mapping[str, Any] | None = None) -> Collection:
        """Make a collection.

        Raises:
            ConflictError: the name is taken. UsageError: a name or attributes that can't be.
        """
        async with self._db.transaction() as tx:
            made = await tx.execute(
                "insert into collection (name, description, attributes) values ($1, $2, $3) on conflict do nothing",
                check_collection(name),
                check_text("description", description),
                check_attributes(attributes or {}),
            )
            if not made:
                raise ConflictError(f"collection '{name}': is there already")
            collection = await CollectionStore(tx).get(name)
            await tell(tx, "gallery", [(name, collection.version)], collection=name)
        return collection

    async def change(self, name: str, change: CollectionChange, *, version: int | None = None) -> Collection:
        """Change a collection.

        Raises:
            NotFoundError, StaleError: none of this name; it has another version. UsageError: a value that can't be.
        """
        async with self._db.transaction() as tx:
            if not await tx.fetch("select from collection where name = $1 for update", name):
                raise no_collection(name)
            before = await CollectionStore(tx).get(name)
            if version is not None and before.version != version:
                raise StaleError(f"collection '{name}': has version {before.version}, not {version}; read it again")
            description, attributes = before.description, before.attributes
            if "description" in change:
                description = check_text("description", change["description"] or "")
            if "attributes" in change:
                merged = {**attributes, **change["attributes"]} if change["attributes"] is not None else {}
                attributes = check_attributes({key: value for key, value in merged.items() if value is not None})
            await tx.execute(
                "update collection set description = $2, attributes = $3, version = version + 1 where name = $1",
                name,
                description,
                attributes,
            )
            collection = await CollectionStore(tx).get(name)
            await tell(tx, "gallery", [(name, collection.version)], collection=name)
        return collection

    async def subject_ids(self, name: str, *, limit: int) -> list[str]:
        """Return ids of subjects of a collection, for erasing them."""
        rows = await self._db.fetch("select subject_id from subject where collection = $1 order by subject_id limit $2", name, limit)
        return [str(row["subject_id"]) for row in rows]

    async def users(self, name: str) -> list[str]:
        """Return the watchlists that list subjects of a collection: it can't go before them."""
        rows = await self._db.fetch("select name from watchlist where collection = $1 order by name", name)
        return [row["name"] for row in rows]

    async def remove(self, name: str) -> None:
        """Delete an empty collection.

        Raises:
            NotFoundError: none of this name. ConflictError: somebody is in it, or a watchlist uses it.
        """
        async with self._db.transaction() as tx:
            if not await tx.fetch("select from collection where name = $1 for update", name):
                raise no_collection(name)
            if await tx.fetch("select from subject where collection = $1 limit 1", name):
                raise ConflictError(f"collection '{name}': is not empty; erase its subjects first, or ask with erase=true")
            if used := await CollectionStore(tx).users(name):
                raise ConflictError(f"collection '{name}': is used by watchlist {used[0]}; remove that first")
            await tx.execute("delete from collection where name = $1", name)
            await tell(tx, "gallery", [(name, 0)], collection=name)


def no_collection(name: str) -> NotFoundError:
    """Return the error of a name that no collection has, or none that is granted."""
    return NotFoundError(f"collection '{name[:80]}': there is none")
