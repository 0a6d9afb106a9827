"""Unknown persons in PostgreSQL: the tables ``person``, ``person_exemplar`` and ``person_merge``, and whose a sighting is.

How many sightings a person has, when, and which shows it best follows the sightings through triggers (deploy/migrations/0014_history.sql):
whatever erases or renames a sighting takes it from its person too.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ConflictError, NotFoundError, StaleError, UsageError
from core.events import tell, tell_each
from core.ports import Database
from core.sealing import SealedColumn
from core.vault import label_of
from sightings.cases import forget_case_sightings
from sightings.cursor import Cursor
from sightings.feedback import forget_judged
from sightings.locks import LOCK_FORGETTING
from sightings.people import MOST_EXEMPLARS, Placed, person_id_of
from sightings.record import SeenFace, at, seconds
from sightings.rows import SELECT_FACES, seen_face, told_of
from sightings.rulings import FORGOTTEN_REASON

SEALED = (
    SealedColumn(table="person", key="person_id", column="label", label=lambda row: label_of("person label", row["person_id"])),
    SealedColumn(
        table="person_merge", key="merge_id, merged_id", column="label", label=lambda row: label_of("person label", row["merged_id"])
    ),
)
Order = Literal["newest", "most"]

_UNCHECKED = SELECT_FACES + "where not s.person_checked and s.closed and s.outcome = 'stranger' order by s.last_at, s.sighting_id limit $1"
_CHECKED = "update sighting set person_checked = true where sighting_id = any($1::uuid[])"
_FOUND = """
insert into person (person_id, first_at, last_at, sightings, best_sighting_id, best_quality) values ($1, $2, $3, 0, $4, $5)
on conflict (person_id) do nothing
"""
_TAKE = "update sighting set person_id = $2, person_checked = true where sighting_id = $1 and person_id is null and embedding is not null"
_GROW = """
update person set sightings = sightings + 1, first_at = least(first_at, $2), last_at = greatest(last_at, $3),
    best_sighting_id = case when $5 > best_quality then $4 else best_sighting_id end, best_quality = greatest(best_quality, $5)
where person_id = $1
"""
_EXEMPLARS = """
select x.person_id, s.sighting_id, s.camera, s.outcome, s.quality, s.first_at, s.last_at, s.revision, s.model, s.embedding
from person_exemplar x join sighting s using (sighting_id) where s.model = $1 and s.embedding is not null
"""
_PERSONS = "select person_id, first_at, last_at, sightings, best_sighting_id, label, subject_id, naming, version from person p "
# Of somebody who sees some cameras only: what those saw.
_PERSONS_AT = """
select p.person_id, s.first_at, s.last_at, s.sightings, s.best_sighting_id, p.label, p.subject_id, p.naming, p.version
from person p join (
    select person_id, min(first_at) as first_at, max(last_at) as last_at, count(*)::int as sightings,
           (array_agg(sighting_id order by thumbnail is null, quality desc, sighting_id))[1] as best_sighting_id
    from sighting where person_id is not null and camera = any($1::text[]) group by person_id) s using (person_id)
"""
_FORGET = """
update sighting
set outcome = 'stranger', reason = $2, score = null, embedding = null, thumbnail = null
where person_id = $1 returning sighting_id, revision, camera, collection
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An unknown person, or one who was named."""

    person_id: str
    first_s: float
    last_s: float
    sightings: int
    best_sighting_id: str
    label: str | None
    subject_id: str | None
    naming: dict[str, Any] | None
    version: int


class PersonStore:
    """Unknown persons. Thread rule: one event loop; any number of processes, of which one at a time places sightings."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def unchecked(self, limit: int) -> tuple[list[SeenFace], list[str]]:
        """Return ended strangers whom nobody has placed yet, the earliest first, and those of them that have no face."""
        rows = await self._db.fetch(_UNCHECKED, limit)
        faces = [face for row in rows if row["embedding"] is not None and (face := seen_face(row, self._db.vault))]
        with_face = {face.sighting_id for face in faces}
        return faces, [key for row in rows if (key := str(row["sighting_id"])) not in with_face]

    async def leave_out(self, sighting_ids: Sequence[str]) -> None:
        """Note that sightings are nobody's."""
        await self._db.execute(_CHECKED, list(sighting_ids))

    async def exemplars(self, model: str, persons: Sequence[str] | None = None) -> list[tuple[str, SeenFace]]:
        """Return the exemplars of some persons, or of all, with whose they are."""
        sql, args = (_EXEMPLARS, ()) if persons is None else (_EXEMPLARS + "and x.person_id = any($2::uuid[])", (list(persons),))
        rows = await self._db.fetch(sql + " order by s.sighting_id", model, *args)
        return [(str(row["person_id"]), face) for row in rows if (face := seen_face(row, self._db.vault))]

    async def owners(self, sighting_ids: Sequence[str]) -> dict[str, str]:
        """Return whose exemplars these sightings are, of those that are any."""
        rows = await self._db.fetch(
            "select sighting_id, person_id from person_exemplar where sighting_id = any($1::uuid[])", list(sighting_ids)
        )
        return {str(row["sighting_id"]): str(row["person_id"]) for row in rows}

    async def count(self) -> int:
        """Return how many persons there are."""
        return int((await self._db.fetch("select count(*) as n from person"))[0]["n"])

    async def enter(self, face: SeenFace, placed: Placed) -> str | None:
        """Store what becomes of a face, and return the person; None when it is nobody's, or was erased meanwhile.

        A sighting that joins somebody who has a name gets that name by hand of whoever named them, not here.
        """
        if placed.verdict == "left_out":
            await self.leave_out([face.sighting_id])
            return None
        key = placed.person_id or person_id_of(face.sighting_id)
        async with self._db.transaction() as tx:
            when = at(face.first_s), at(face.last_s)
            if placed.person_id is None:
                await tx.execute(_FOUND, key, *when, face.sighting_id, face.quality)
            elif not await tx.fetch("select from person where person_id = $1 for update", key):
                return None  # gone meanwhile: it is asked again
            if not await tx.execute(_TAKE, face.sighting_id, key):
                await tx.execute("select refresh_persons(array[$1::uuid])", key)
                return None
            await tx.execute(_GROW, key, *when, face.sighting_id, face.quality)
            if placed.exemplar:
                await tx.execute("insert into person_exemplar values ($1, $2, $3)", face.sighting_id, key, face.quality)
            await tell(tx, "person", [(key, 1)], camera=face.camera)
        return key

    async def get(self, person_id: str, *, cameras: Sequence[str] | None = None) -> Person:
        """Return a person, as these cameras have seen it. Raises NotFoundError."""
        sql, args = _select(cameras)
        rows = await self._db.fetch(f"{sql} where p.person_id = ${len(args) + 1}", *args, person_id)
        if not rows:
            raise _absent(person_id)
        return self._person(rows[0])

    async def page(
        self, *, order: Order, least: int, named: bool | None, cameras: Sequence[str] | None, limit: int, cursor: str | None
    ) -> tuple[list[Person], str | None]:
        """Return a page of persons.

        Args:
            order: last seen first, or seen most often first.
            least: fewest sightings.
            named: with a name, without, or None for both.
            cameras: as these have seen them; None = all.
            limit: most rows.
            cursor: of the page before.

        Raises:
            UsageError: the cursor is none of ours.
        """
        sql, args = _select(cameras)
        table = "p" if cameras is None else "s"
        by = f"{table}.last_at" if order == "newest" else f"{table}.sightings"
        args += [least, named, limit + 1]
        least_at, named_at, limit_at = (f"${len(args) - back}" for back in (2, 1, 0))
        where = f"where {table}.sightings >= {least_at} and ({named_at}::boolean is null or (p.subject_id is not null) = {named_at})"
        if cursor:
            last = Cursor.decode(cursor)
            args += [last.at if order == "newest" else round(seconds(last.at) * 1e6), last.row_id]
            where += f" and ({by}, p.person_id) < (${len(args) - 1}, ${len(args)})"
        rows = await self._db.fetch(f"{sql} {where} order by {by} desc, p.person_id desc limit {limit_at}", *args)
        following = None
        if len(rows) > limit:
            end = rows[limit - 1]
            value = end["last_at"] if order == "newest" else at(end["sightings"] / 1e6)
            following = Cursor(value, end["person_id"]).encode()
        return [self._person(row) for row in rows[:limit]], following

    async def sightings(
        self, person_id: str, *, cameras: Sequence[str] | None, limit: int, cursor: str | None
    ) -> tuple[list[str], str | None]:
        """Return a page of ids of a person's sightings, newest first. Raises UsageError: the cursor is none of ours."""
        last = Cursor.decode(cursor) if cursor else None
        rows = await self._db.fetch(
            "select sighting_id, first_at from sighting where person_id = $1 and ($2::text[] is null or camera = any($2)) "
            "and ($3::timestamptz is null or (first_at, sighting_id) < ($3, $4)) order by first_at desc, sighting_id desc limit $5",
            person_id,
            None if cameras is None else list(cameras),
            last and last.at,
            last and last.row_id,
            limit + 1,
        )
        end = rows[limit - 1] if len(rows) > limit else None
        following = Cursor(end["first_at"], end["sighting_id"]).encode() if end else None
        return [str(row["sighting_id"]) for row in rows[:limit]], following

    async def set_label(self, person_id: str, label: str | None, *, version: int | None) -> Person:
        """Write down what people call a person. Raises NotFoundError, StaleError."""
        async with self._db.transaction() as tx:
            before = await _locked(tx, person_id)
            if version is not None and before["version"] != version:
                raise StaleError(f"person {person_id}: has version {before['version']}, not {version}; read it again")
            sealed = None if label is None else tx.vault.seal(label.encode(), label=label_of("person label", person_id))
            await tx.execute("update person set label = $2, version = version + 1 where person_id = $1", person_id, sealed)
        return await self.get(person_id)

    async def merge(self, survivor_id: str, merged_id: str) -> Person:
        """Make two persons one: all sightings become the survivor's, whose exemplars are the best of both.

        Raises:
            NotFoundError: one is not there. ConflictError: the one to go has a name, which must be undone first. UsageError: they are one.
        """
        if uuid.UUID(survivor_id) == uuid.UUID(merged_id):
            raise UsageError("a person can't be merged with itself")
        async with self._db.transaction() as tx:
            for key in sorted((survivor_id, merged_id)):
                await _locked(tx, key)
            merged = await _locked(tx, merged_id)
            if merged["subject_id"] is not None:
                raise ConflictError(f"person {merged_id}: has a name; undo the naming first, or merge the other way round")
            moved = [row["sighting_id"] for row in await tx.fetch("select sighting_id from sighting where person_id = $1", merged_id)]
            exemplars = await tx.fetch("select sighting_id from person_exemplar where person_id = $1", merged_id)
            await tx.execute("update sighting set person_id = $2 where person_id = $1", merged_id, survivor_id)
            await tx.execute("update person_exemplar set person_id = $2 where person_id = $1", merged_id, survivor_id)
            await tx.execute(
                "delete from person_exemplar where person_id = $1 and sighting_id not in "
                "(select sighting_id from person_exemplar where person_id = $1 order by quality desc, sighting_id limit $2)",
                survivor_id,
                MOST_EXEMPLARS,
            )
            await tx.execute(
                "insert into person_merge (survivor_id, merged_id, sightings, exemplars, label) values ($1, $2, $3, $4, $5)",
                survivor_id,
                merged_id,
                moved,
                [row["sighting_id"] for row in exemplars],
                merged["label"],
            )
            await tx.execute("update person_merge set survivor_id = $2 where survivor_id = $1", merged_id, survivor_id)
            await _refresh(tx, [survivor_id, merged_id])
        return await self.get(survivor_id)

    async def unmerge(self, survivor_id: str) -> Person:
        """Undo the last merge into a person, and return who is back.

        Raises:
            NotFoundError: no such person. ConflictError: nothing was merged into it, or nothing of that is left.
        """
        async with self._db.transaction() as tx:
            await _locked(tx, survivor_id)
            rows = await tx.fetch(
                "delete from person_merge where merge_id = (select merge_id from person_merge where survivor_id = $1 "
                "order by merged_at desc limit 1) returning *",
                survivor_id,
            )
            if not rows:
                raise ConflictError(f"person {survivor_id}: nobody was merged into it")
            merge = rows[0]
            await self._part(tx, survivor_id, str(merge["merged_id"]), merge["sightings"], merge["exemplars"])
            await tx.execute("update person set label = $2 where person_id = $1", merge["merged_id"], merge["label"])
        return await self.get(str(merge["merged_id"]))

    async def split(self, person_id: str, sighting_ids: Sequence[str]) -> Person:
        """Make some of a person's sightings another person, and return that one.

        Raises:
            NotFoundError: no such person. ConflictError: none of the sightings is its, or all are, or it has a name.
        """
        new_id = str(uuid.uuid4())
        async with self._db.transaction() as tx:
            before = await _locked(tx, person_id)
            if before["subject_id"] is not None:
                raise ConflictError(f"person {person_id}: has a name; undo the naming first")
            await self._part(tx, person_id, new_id, [uuid.UUID(one) for one in sighting_ids], [])
        return await self.get(new_id)

    async def name(self, tx: Database, person_id: str, subject_id: str, naming: dict[str, Any]) -> list[str]:
        """Note inside a transaction that a person has a name, and return its sightings. Raises NotFoundError, ConflictError."""
        before = await _locked(tx, person_id)
        if before["subject_id"] is not None:
            raise ConflictError(f"person {person_id}: has a name already; undo that first")
        await tx.execute(
            "update person set subject_id = $2, naming = $3, version = version + 1 where person_id = $1", person_id, subject_id, naming
        )
        return [str(row["sighting_id"]) for row in await tx.fetch("select sighting_id from sighting where person_id = $1", person_id)]

    async def unname(self, tx: Database, person_id: str) -> tuple[Person, list[uuid.UUID]]:
        """Take a person's name back inside a transaction, and return the person as it was, and the sightings that lost the name.

        Raises:
            NotFoundError: no such person. ConflictError: it has no name.
        """
        before = self._person(await _locked(tx, person_id))
        if before.subject_id is None:
            raise ConflictError(f"person {person_id}: has no name")
        rows = await tx.fetch("select sighting_id from sighting where person_id = $1 and subject_id = $2", person_id, before.subject_id)
        await tx.execute("update person set subject_id = null, naming = null, version = version + 1 where person_id = $1", person_id)
        return before, [row["sighting_id"] for row in rows]

    async def forget(self, person_id: str) -> int:
        """Erase a person: embeddings and pictures of all its sightings, and what was said of them; that somebody was there stays.

        Returns:
            How many sightings were erased.

        Raises:
            NotFoundError: no such person. ConflictError: it has a name: the subject is to be erased then.
        """
        async with self._db.transaction() as tx:
            await tx.fetch(LOCK_FORGETTING)
            subject_id = (await _locked(tx, person_id))["subject_id"]
            if subject_id is not None:
                raise ConflictError(f"person {person_id}: has a name; erase subject {subject_id}, or undo the naming first")
            rows = await tx.fetch(_FORGET, person_id, FORGOTTEN_REASON)
            ids = [row["sighting_id"] for row in rows]
            await forget_judged(tx, ids)
            await forget_case_sightings(tx, ids)
            await _refresh(tx, [person_id])
            await tell_each(tx, "sighting", [told_of(row) for row in rows])
            await tell(tx, "person", [(person_id, 0)])
        return len(rows)

    async def _part(
        self, tx: Database, person_id: str, new_id: str, sighting_ids: Sequence[uuid.UUID], exemplars: Sequence[uuid.UUID]
    ) -> None:
        """Move some sightings to a person that is not there yet."""
        rows = await tx.fetch(
            "select sighting_id, first_at, last_at, quality from sighting where person_id = $1 and sighting_id = any($2::uuid[]) "
            "order by quality desc, sighting_id",
            person_id,
            list(sighting_ids),
        )
        total = (await tx.fetch("select count(*) as n from sighting where person_id = $1", person_id))[0]["n"]
        if not rows or len(rows) == total:
            raise ConflictError(f"person {person_id}: {'none' if not rows else 'all'} of these sightings are its; nothing can be split")
        best = rows[0]
        await tx.execute(_FOUND, new_id, best["first_at"], best["last_at"], best["sighting_id"], best["quality"])
        ids = [row["sighting_id"] for row in rows]
        await tx.execute("update sighting set person_id = $2 where sighting_id = any($1::uuid[])", ids, new_id)
        await tx.execute("delete from person_exemplar where sighting_id = any($1::uuid[])", ids)
        keep = [row for row in rows if row["sighting_id"] in set(exemplars)] or rows
        await tx.executemany(
            "insert into person_exemplar values ($1, $2, $3)",
            [(row["sighting_id"], new_id, row["quality"]) for row in keep[:MOST_EXEMPLARS]],
        )
        if not await tx.fetch("select from person_exemplar where person_id = $1 limit 1", person_id):
            await tx.execute(
                "insert into person_exemplar select sighting_id, person_id, quality from sighting where person_id = $1 "
                "order by quality desc, sighting_id limit $2",
                person_id,
                MOST_EXEMPLARS,
            )
        await _refresh(tx, [person_id, new_id])

    def _person(self, row: dict[str, Any]) -> Person:
        label = row["label"]
        key = str(row["person_id"])
        return Person(
            person_id=key,
            first_s=seconds(row["first_at"]),
            last_s=seconds(row["last_at"]),
            sightings=row["sightings"],
            best_sighting_id=str(row["best_sighting_id"]),
            label=None if label is None else self._db.vault.open(label, label=label_of("person label", key)).decode(),
            subject_id=row["subject_id"] and str(row["subject_id"]),
            naming=row["naming"],
            version=row["version"],
        )


def _select(cameras: Sequence[str] | None) -> tuple[str, list[Any]]:
    return (_PERSONS, []) if cameras is None else (_PERSONS_AT, [list(cameras)])


async def _locked(tx: Database, person_id: str) -> dict[str, Any]:
    rows = await tx.fetch(_PERSONS + "where p.person_id = $1 for update", person_id)
    if not rows:
        raise _absent(person_id)
    return rows[0]


async def _refresh(tx: Database, person_ids: Sequence[str]) -> None:
    await tx.fetch("select refresh_persons($1::uuid[])", list(person_ids))


def _absent(person_id: str) -> NotFoundError:
    return NotFoundError(f"person {person_id[:64]}: there is none")
