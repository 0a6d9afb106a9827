"""Two subjects who are one person become one, and two again: what moved is written down, so that undoing gives everything back."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from core.errors import ConflictError, NotFoundError, UsageError
from core.events import tell
from core.ports import Database
from core.vault import label_of
from enrollment.changes import tell_changes, tell_subject
from enrollment.changing import check_free, locked_subject
from enrollment.record import Subject, clean_name
from enrollment.rows import SUBJECTS, subject_of, uuid_or_nothing

# What of other tables goes with a subject: kind of the part, table, its key, and what must not be twice with one subject.
PARTS: Final = (
    ("reference", "reference", "reference_id", ()),
    ("set_aside", "set_aside", "set_aside_id", ("content_sha256", "reason")),
    ("feedback", "feedback", "feedback_id", ("sighting_id",)),
    ("person", "person", "person_id", ()),  # unknown persons who were given this name: before their sightings, which would leave them
)
_ADD = """
insert into subject_merge (merge_id, collection, survivor_id, merged_id, survivor, merged, actor) values ($1, $2, $3, $4, $5, $6, $7)
"""
_SELECT = """
select m.merge_id, m.collection, m.survivor_id, m.merged_id, m.survivor, m.merged, m.actor, m.merged_at, m.undone_at,
       (select count(*) from subject_merge_part p where p.merge_id = m.merge_id and p.kind = 'reference') as "references",
       (select count(*) from subject_merge_part p where p.merge_id = m.merge_id and p.kind = 'sighting') as sightings
from subject_merge m
"""
_COLUMNS: Final = ("name", "external_id", "notes", "attributes", "consent", "valid_from", "expires_at", "created_at", "version")
_RESTORE = f"""
insert into subject (subject_id, collection, {", ".join(_COLUMNS)}) values ($1, $2, {", ".join(f"${n + 3}" for n in range(len(_COLUMNS)))})
"""
_TIMES: Final = ("valid_from", "expires_at", "created_at")
_MERGED_BEFORE = """
with recursive chain as (
    select merged_id from subject_merge where survivor_id = $1
    union
    select m.merged_id from chain c join subject_merge m on m.survivor_id = c.merged_id)
select merged_id from chain
"""


class Hands(Protocol):
    """Hands over what was seen of a subject (see sightings.naming.Hands)."""

    async def hold(self, tx: Database) -> None:
        """Keep out who stores sightings until the transaction ends: taken before any subject is locked."""
        ...

    async def move(self, tx: Database, from_id: str, to: tuple[str, str]) -> dict[str, list[uuid.UUID]]:
        """Hand all of a subject to another (id, name); return what was moved: ids under ``sighting`` and ``alert``."""
        ...

    async def give_back(self, tx: Database, moved: dict[str, list[uuid.UUID]], owners: tuple[str, str, str]) -> None:
        """Hand some of it over: (id of who has it, id and name of who gets it)."""
        ...

    async def tell(self, tx: Database, moved: dict[str, list[uuid.UUID]]) -> None:
        """Tell who follows what is seen, at the end of the transaction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A merge as it was done."""

    merge_id: str
    collection: str
    survivor_id: str
    merged_id: str
    merged: str
    """Name of the subject that is no more."""
    actor: str
    merged_at: datetime
    undone_at: datetime | None
    references: int
    """That moved."""
    sightings: int
    generation: int | None = None
    """The gallery with what was done just now; None where the matchers have nothing to learn."""


class MergeStore:
    """Merges subjects and parts them again. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, *, hands: Hands) -> None:
        self._db = db
        self._hands = hands

    async def merge(self, survivor_id: str, other_id: str, *, actor: str, name: str | None = None) -> Merge:
        """Make two subjects one: references, sightings, episodes, alerts, watchlists of the other become the survivor's.

        Args:
            survivor_id: who stays, with its own attributes, consent and validity.
            other_id: who goes.
            actor: who wants it.
            name: of the survivor from now on; None = as it is.

        Raises:
            NotFoundError: no such subject. UsageError: they are the same, or of different collections, or the name can't be.
            ConflictError: the name is taken, or one of them has opted out.
        """
        async with self._db.transaction() as tx:
            await self._hands.hold(tx)
            survivor, other = await _both(tx, survivor_id, other_id)
            after = clean_name(name) if name else survivor.name
            merge_id = uuid.uuid4()
            await tx.execute(
                _ADD,
                merge_id,
                survivor.collection,
                survivor.subject_id,
                other.subject_id,
                _seal(tx, "survivor", merge_id, {"name": survivor.name, "given": after}),
                _seal(tx, "merged", merge_id, {column: getattr(other, column) for column in _COLUMNS} | await _threshold(tx, other)),
                actor,
            )
            moved = {
                kind: await _hand_over(tx, table, key, unique, other.subject_id, survivor.subject_id) for kind, table, key, unique in PARTS
            }
            moved |= await self._hands.move(tx, other.subject_id, (survivor.subject_id, after))
            moved |= await _join_watchlists(tx, other.subject_id, survivor.subject_id)
            await _write_down(tx, merge_id, moved)
            await tx.execute("delete from subject where subject_id = $1", other.subject_id)
            await _rename(tx, survivor, after)
            generation = await _tell_moved(tx, other, survivor, moved["reference"], all_of_them=after != survivor.name)
            done = await _row(tx, str(merge_id))
            await tell(tx, "gallery", _versions(survivor, other), collection=survivor.collection)
            await self._hands.tell(tx, moved)
        return replace(_merge(self._db, done), generation=generation)

    async def get(self, merge_id: str) -> Merge:
        """Return a merge. Raises NotFoundError."""
        return _merge(self._db, await _row(self._db, merge_id))

    async def of_subject(self, subject_id: str) -> list[Merge]:
        """Return the merges by which others became a subject, newest first."""
        rows = await self._db.fetch(_SELECT + "where m.survivor_id = $1 order by m.merged_at desc", uuid_or_nothing(subject_id))
        return [_merge(self._db, row) for row in rows]

    async def undo(self, merge_id: str) -> Merge:
        """Part two subjects again: each has the references and sightings that it had, but for what was erased since.

        Raises:
            NotFoundError: no such merge. ConflictError: it is undone, the survivor was merged itself, or a name is taken now.
        """
        async with self._db.transaction() as tx:
            await self._hands.hold(tx)
            row = await _row(tx, merge_id, lock=True)
            if row["undone_at"] is not None:
                raise ConflictError(f"merge {merge_id}: is undone already")
            survivor = await _survivor(tx, row)
            names, merged = _open(tx, "survivor", row), _open(tx, "merged", row)
            renamed = survivor.name == names["given"] != names["name"]
            if renamed:
                await check_free(tx, survivor.collection, names["name"], None, besides=survivor.subject_id)
            await _rename(tx, survivor, names["name"] if renamed else survivor.name)
            other = await _restore(tx, row, merged)
            parts = await _read_parts(tx, row["merge_id"])
            for kind, table, key, unique in PARTS:
                parts[kind] = await _hand_over(tx, table, key, unique, survivor.subject_id, other.subject_id, only=parts.get(kind, []))
            await _part_watchlists(tx, parts, survivor.subject_id, other.subject_id)
            seen = {kind: parts.get(kind, []) for kind in ("sighting", "alert")}
            await self._hands.give_back(tx, seen, (survivor.subject_id, other.subject_id, other.name))
            generation = await _tell_moved(tx, survivor, other, parts["reference"], all_of_them=False)
            if renamed:
                told = await tell_subject(tx, collection=survivor.collection, subject_id=survivor.subject_id)
                generation = told or generation
            await tx.execute("update subject_merge set undone_at = now() where merge_id = $1", row["merge_id"])
            done = await _row(tx, merge_id)
            await tell(tx, "gallery", _versions(survivor, other), collection=survivor.collection)
            await self._hands.tell(tx, seen)
        return replace(_merge(self._db, done), generation=generation)


async def forget_merges(tx: Database, subject_id: str) -> list[str]:
    """Delete what merges remember of a subject; part of its erasure.

    Returns:
        Ids of the subjects that had become this one: what still names them must be erased too.
    """
    key = uuid_or_nothing(subject_id)
    rows = await tx.fetch(_MERGED_BEFORE, key)
    await tx.execute(
        "delete from subject_merge where survivor_id = any($1::uuid[]) or merged_id = any($1::uuid[])",
        [key, *(row["merged_id"] for row in rows)],
    )
    return [str(row["merged_id"]) for row in rows]


async def _both(tx: Database, survivor_id: str, other_id: str) -> tuple[Subject, Subject]:
    """Lock both subjects, always in the same order."""
    locked = {key: await locked_subject(tx, key) for key in sorted({survivor_id, other_id})}
    survivor, other = locked[survivor_id], locked[other_id]
    if survivor.subject_id == other.subject_id:
        raise UsageError("other_subject_id: is the subject itself")
    if survivor.collection != other.collection:
        raise UsageError(
            f"other_subject_id: is in collection {other.collection}, not {survivor.collection}; subjects of one collection can be merged"
        )
    if await tx.fetch("select from opt_out where subject_id in ($1, $2)", survivor.subject_id, other.subject_id):
        raise ConflictError("one of the two has opted out; take the opt-out back first, or erase the other")
    return survivor, other


async def _hand_over(
    tx: Database, table: str, key: str, unique: Sequence[str], from_id: str, to_id: str, *, only: Sequence[uuid.UUID] | None = None
) -> list[uuid.UUID]:
    """Give rows of a table to another subject, except those that it has in the same way already; return the keys of those that went."""
    same = "".join(f" and o.{column} = t.{column}" for column in unique)
    twice = f" and not exists (select from {table} o where o.subject_id = $2{same})" if unique else ""
    rows = await tx.fetch(
        f"update {table} t set subject_id = $2 where t.subject_id = $1 "
        f"and ($3::uuid[] is null or t.{key} = any($3)){twice} returning t.{key} as key",
        from_id,
        to_id,
        None if only is None else list(only),
    )
    return sorted(row["key"] for row in rows)


async def _join_watchlists(tx: Database, other_id: str, survivor_id: str) -> dict[str, list[uuid.UUID]]:
    rows = await tx.fetch(
        "select o.watchlist_id, s.subject_id is not null as kept from watchlist_subject o "
        "left join watchlist_subject s on s.watchlist_id = o.watchlist_id and s.subject_id = $2 where o.subject_id = $1",
        other_id,
        survivor_id,
    )
    await tx.execute(
        "insert into watchlist_subject (watchlist_id, subject_id) select watchlist_id, $2 from watchlist_subject where subject_id = $1 "
        "on conflict do nothing",
        other_id,
        survivor_id,
    )
    return {
        "watchlist": [row["watchlist_id"] for row in rows if not row["kept"]],
        "kept_watchlist": [row["watchlist_id"] for row in rows if row["kept"]],
    }


async def _part_watchlists(tx: Database, parts: dict[str, list[uuid.UUID]], survivor_id: str, other_id: str) -> None:
    added = parts.get("watchlist", [])
    await tx.execute(
        "insert into watchlist_subject (watchlist_id, subject_id) "
        "select watchlist_id, $2 from watchlist where watchlist_id = any($1::uuid[])",
        [*added, *parts.get("kept_watchlist", [])],
        other_id,
    )
    await tx.execute("delete from watchlist_subject where watchlist_id = any($1::uuid[]) and subject_id = $2", added, survivor_id)


async def _write_down(tx: Database, merge_id: uuid.UUID, moved: dict[str, list[uuid.UUID]]) -> None:
    for kind, ids in moved.items():
        await tx.execute("insert into subject_merge_part (merge_id, kind, part_id) select $1, $2, unnest($3::uuid[])", merge_id, kind, ids)


async def _read_parts(tx: Database, merge_id: uuid.UUID) -> dict[str, list[uuid.UUID]]:
    parts: dict[str, list[uuid.UUID]] = {}
    for row in await tx.fetch("select kind, part_id from subject_merge_part where merge_id = $1", merge_id):
        parts.setdefault(row["kind"], []).append(row["part_id"])
    return parts


async def _rename(tx: Database, subject: Subject, name: str) -> None:
    """Give a subject its name, the same one perhaps; its version grows in any case."""
    if name != subject.name:
        await check_free(tx, subject.collection, name, None, besides=subject.subject_id)
    await tx.execute("update subject set name = $2, version = version + 1 where subject_id = $1", subject.subject_id, name)


async def _restore(tx: Database, row: dict[str, Any], merged: dict[str, Any]) -> Subject:
    values: dict[str, Any] = {
        name: merged[name] and datetime.fromisoformat(merged[name]) if name in _TIMES else merged[name] for name in _COLUMNS
    }
    await check_free(tx, row["collection"], values["name"], values["external_id"])
    values["version"] += 1
    await tx.execute(_RESTORE, row["merged_id"], row["collection"], *(values[name] for name in _COLUMNS))
    if threshold := merged.get("threshold"):
        await tx.execute(
            "insert into threshold (level, key, score, far, fpir, updated_by) values ('subject', $1, $2, $3, $4, $5)",
            str(row["merged_id"]),
            *(threshold[name] for name in ("score", "far", "fpir", "updated_by")),
        )
    return subject_of((await tx.fetch(SUBJECTS + "where s.subject_id = $1", row["merged_id"]))[0])


async def _survivor(tx: Database, row: dict[str, Any]) -> Subject:
    try:
        return await locked_subject(tx, str(row["survivor_id"]))
    except NotFoundError as err:
        raise ConflictError(f"merge {row['merge_id']}: its survivor was merged into another subject; undo that first") from err


async def _threshold(tx: Database, subject: Subject) -> dict[str, Any]:
    """Return the subject's own threshold, which goes with its row."""
    rows = await tx.fetch("select score, far, fpir, updated_by from threshold where level = 'subject' and key = $1", subject.subject_id)
    return {"threshold": rows[0]} if rows else {}


async def _tell_moved(tx: Database, before: Subject, after: Subject, ids: list[uuid.UUID], *, all_of_them: bool) -> int | None:
    """Tell the matchers that references changed hands; ``all_of_them``: the new owner's others changed too."""
    generation = None
    if ids:
        await tell_changes(tx, "delete", collection=before.collection, subject_id=before.subject_id, reference_ids=ids)
        generation = await tell_changes(tx, "put", collection=after.collection, subject_id=after.subject_id, reference_ids=ids)
    if all_of_them:
        generation = await tell_subject(tx, collection=after.collection, subject_id=after.subject_id) or generation
    return generation


def _versions(*subjects: Subject) -> list[tuple[str, int]]:
    return [(subject.subject_id, subject.version + 1) for subject in subjects]


async def _row(db: Database, merge_id: str, *, lock: bool = False) -> dict[str, Any]:
    rows = await db.fetch(_SELECT + "where m.merge_id = $1" + (" for update of m" if lock else ""), uuid_or_nothing(merge_id))
    if not rows:
        raise NotFoundError(f"merge {merge_id[:80]}: there is none, or one of the two was erased since")
    return rows[0]


def _merge(db: Database, row: dict[str, Any]) -> Merge:
    same = {name: row[name] for name in ("collection", "actor", "merged_at", "undone_at", "references", "sightings")}
    text: dict[str, Any] = {name: str(row[name]) for name in ("merge_id", "survivor_id", "merged_id")}
    return Merge(**text, **same, merged=_open(db, "merged", row)["name"])


def _seal(tx: Database, column: str, merge_id: uuid.UUID, values: dict[str, Any]) -> bytes:
    return tx.vault.seal(msgspec.json.encode(values), label=label_of(column, merge_id))


def _open(db: Database, column: str, row: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.json.decode(db.vault.open(row[column], label=label_of(column, row["merge_id"])))
    return values
