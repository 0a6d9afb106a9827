"""Cases: sightings that belong together, with what people noted. The SQL of the tables ``case_file``, ``case_sighting`` and ``case_note``.

A case with a legal hold keeps its sightings, whatever retention says; without one, retention erases them, and the case keeps only when and
where they were. Erasing a subject takes its sightings out of all cases, held or not.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from core.errors import ConflictError, NotFoundError, StaleError
from core.ports import Database
from core.sealing import SealedColumn
from core.vault import label_of
from sightings.cursor import Cursor
from sightings.record import StoredSighting, parse_id, seconds
from sightings.rows import SELECT_ONE, stored_sighting
from sightings.scope import EVERYTHING, Scope

CaseState = Literal["open", "closed"]
MAX_PAGE = 500
CHANGEABLE: Final = ("title", "description", "state", "owner", "legal_hold")
SEALED = (
    SealedColumn(
        table="case_sighting",
        key="case_id, sighting_id",
        column="note",
        label=lambda row: _sighting_label(row["case_id"], row["sighting_id"]),
    ),
    SealedColumn(table="case_note", key="note_id", column="text", label=lambda row: label_of("case note", row["note_id"])),
    SealedColumn(
        table="alert_history", key="alert_id, history_id", column="comment", label=lambda row: label_of("alert comment", row["alert_id"])
    ),
)

_SEEN = "($1::text[] is null or f.collection = any($1))"
_CAMERA_SEEN = "($2::text[] is null or exists (select from camera c where c.name = s.camera and c.groups && $2))"
_SELECT = f"""
select f.case_id, f.collection, f.title, f.description, f.state, f.owner, f.legal_hold, f.created_at, f.created_by, f.updated_at, f.version,
       (select count(*) from case_sighting s where s.case_id = f.case_id and {_CAMERA_SEEN}) as sightings,
       (select count(*) from case_note n where n.case_id = f.case_id) as notes
from case_file f where {_SEEN}
"""
_ADD = """
insert into case_file (collection, title, description, owner, legal_hold, created_by) values ($1, $2, $3, $4, $5, $6) returning case_id
"""
_CHANGE = f"""
update case_file set version = version + 1, updated_at = now(), {", ".join(f"{name} = ${n}" for n, name in enumerate(CHANGEABLE, 2))}
where case_id = $1
"""
_TOUCH = "update case_file set version = version + 1, updated_at = now() where case_id = $1"
_FOUND = """
select s.sighting_id, s.camera, s.first_at from sighting s
where s.sighting_id = any($1::uuid[]) and s.collection = $3 and s.reason <> 'erased'
    and ($2::text[] is null or exists (select from camera c where c.name = s.camera and c.groups && $2))
for key share
"""
_PUT = """
insert into case_sighting (case_id, sighting_id, camera, first_at, note, added_by) values ($1, $2, $3, $4, $5, $6)
on conflict (case_id, sighting_id) do update set note = coalesce(excluded.note, case_sighting.note)
returning (xmax = 0) as added
"""
_SIGHTINGS = f"""
select s.sighting_id, s.camera, s.first_at, s.note, s.added_at, s.added_by from case_sighting s
where s.case_id = $1 and {_CAMERA_SEEN} and ($3::timestamptz is null or (s.added_at, s.sighting_id) > ($3, $4::uuid))
order by s.added_at, s.sighting_id limit $5
"""
_NOTES = """
select note_id, at, author, text from case_note
where case_id = $1 and ($2::timestamptz is null or (at, note_id) > ($2, $3::uuid)) order by at, note_id limit $4
"""
_FORGET = "delete from case_sighting c using sighting s where s.sighting_id = c.sighting_id and s.subject_id = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case as people see it."""

    case_id: str
    collection: str
    """Whose sightings it holds."""
    title: str
    description: str
    state: CaseState
    owner: str | None
    legal_hold: bool
    """Its sightings are kept, whatever retention says."""
    created_s: float
    created_by: str
    updated_s: float
    version: int
    sightings: int
    """Of cameras that who asks may see."""
    notes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSighting:
    """A sighting of a case."""

    sighting_id: str
    camera: str
    first_s: float
    note: str | None
    added_s: float
    added_by: str
    sighting: StoredSighting | None
    """With its path; None once retention has erased it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseNote:
    """Something that somebody noted."""

    note_id: str
    at_s: float
    author: str
    text: str


class CaseStore:
    """Keeps cases. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, *, scope: Scope = EVERYTHING) -> None:
        self._db = db
        self._scope = scope
        self._collections, _, self._groups = scope.lists()

    async def add(self, fields: Mapping[str, Any], *, collection: str, created_by: str) -> Case:
        """Open a case.

        Args:
            fields: title, description, owner, legal_hold.
            collection: whose sightings it will hold.
            created_by: who opens it, for people.

        Raises:
            NotFoundError: no such collection.
        """
        if not await self._db.fetch("select from collection where name = $1", collection):
            raise NotFoundError(f"collection '{collection[:80]}': there is none")
        given = {"description": "", "owner": None, "legal_hold": False} | dict(fields)
        rows = await self._db.fetch(_ADD, collection, given["title"], given["description"], given["owner"], given["legal_hold"], created_by)
        return await self.get(str(rows[0]["case_id"]))

    async def query(
        self, *, state: CaseState | None = None, owner: str | None = None, limit: int, cursor: str | None = None
    ) -> tuple[list[Case], str | None]:
        """Return a page of cases, newest first, and the cursor of the next page. Raises UsageError: a cursor that is none of ours."""
        limit = max(1, min(limit, MAX_PAGE))
        behind = Cursor.decode(cursor) if cursor else None
        rows = await self._db.fetch(
            f"{_SELECT} and ($3::text is null or f.state = $3) and ($4::text is null or f.owner = $4) "
            "and ($5::timestamptz is null or (f.created_at, f.case_id) < ($5, $6::uuid)) "
            f"order by f.created_at desc, f.case_id desc limit {limit + 1}",
            self._collections,
            self._groups,
            state,
            owner,
            behind and behind.at,
            behind and behind.row_id,
        )
        last = rows[limit - 1] if len(rows) > limit else None
        return [_case(row) for row in rows[:limit]], Cursor(last["created_at"], last["case_id"]).encode() if last else None

    async def get(self, case_id: str) -> Case:
        """Return a case. Raises NotFoundError."""
        key = parse_id(case_id)
        rows = await self._db.fetch(_SELECT + "and f.case_id = $3", self._collections, self._groups, key) if key else []
        if not rows:
            raise NotFoundError(f"case {case_id[:64]}: there is none")
        return _case(rows[0])

    async def change(self, case_id: str, changes: Mapping[str, Any], *, version: int | None = None) -> Case:
        """Change a case; what is not named stays.

        Args:
            case_id: of the case.
            changes: some of CHANGEABLE.
            version: that is changed; None = whichever is there.

        Raises:
            NotFoundError: there is none. StaleError: it was changed meanwhile.
        """
        async with self._db.transaction() as tx:
            before = await self._locked(tx, case_id, version)
            after = {name: changes.get(name, getattr(before, name)) for name in CHANGEABLE}
            if after == {name: getattr(before, name) for name in CHANGEABLE}:
                return before
            await tx.execute(_CHANGE, uuid.UUID(before.case_id), *after.values())
            return await CaseStore(tx, scope=self._scope).get(case_id)

    async def remove(self, case_id: str, *, version: int | None = None) -> None:
        """Delete a case with its notes; its sightings stay where they were.

        Raises:
            NotFoundError: there is none. StaleError: it was changed meanwhile. ConflictError: it is under a legal hold.
        """
        async with self._db.transaction() as tx:
            case = await self._locked(tx, case_id, version)
            _refuse_held(case, "delete it")
            await tx.execute("delete from case_file where case_id = $1", uuid.UUID(case.case_id))

    async def put(self, case_id: str, sightings: Sequence[str], *, note: str | None, added_by: str) -> int:
        """Put sightings into a case, all or none; return how many were not in it. A note replaces theirs.

        Raises:
            NotFoundError: no such case, or a sighting that its collection does not have, for who asks.
        """
        async with self._db.transaction() as tx:
            case = await self._locked(tx, case_id, None)
            keys = {parse_id(one) for one in sightings}
            rows = await tx.fetch(_FOUND, [key for key in keys if key], self._groups, case.collection)
            if missing := keys - {row["sighting_id"] for row in rows}:
                raise NotFoundError(
                    f"sighting {next(iter(missing))}: collection {case.collection} has none of this id; nothing was changed"
                )
            added = 0
            case_key = uuid.UUID(case.case_id)
            for row in rows:
                label = _sighting_label(case_key, row["sighting_id"])
                sealed = None if note is None else tx.vault.seal(note.encode(), label=label)
                done = await tx.fetch(_PUT, case_key, row["sighting_id"], row["camera"], row["first_at"], sealed, added_by)
                added += done[0]["added"]
            await tx.execute(_TOUCH, case_key)
        return added

    async def take(self, case_id: str, sighting_id: str) -> bool:
        """Take a sighting out of a case; return whether it was in it. Raises NotFoundError; ConflictError: a legal hold keeps it."""
        async with self._db.transaction() as tx:
            case = await self._locked(tx, case_id, None)
            _refuse_held(case, "take sightings out of it")
            key = parse_id(sighting_id)
            where = f"delete from case_sighting s where s.case_id = $1 and s.sighting_id = $3 and {_CAMERA_SEEN}"
            taken = await tx.execute(where, uuid.UUID(case.case_id), self._groups, key) if key else 0
            if taken:
                await tx.execute(_TOUCH, uuid.UUID(case.case_id))
        return bool(taken)

    async def sightings(self, case_id: str, *, limit: int, cursor: str | None = None) -> tuple[list[CaseSighting], str | None]:
        """Return a page of a case's sightings in the order in which they were put into it. Raises NotFoundError, UsageError."""
        case, behind = await self.get(case_id), Cursor.decode(cursor) if cursor else None
        key, limit = uuid.UUID(case.case_id), max(1, min(limit, MAX_PAGE))
        rows = await self._db.fetch(_SIGHTINGS, key, self._groups, behind and behind.at, behind and behind.row_id, limit + 1)
        page = rows[:limit]
        ids = [row["sighting_id"] for row in page]
        found = {row["sighting_id"]: row for row in await self._db.fetch(SELECT_ONE + "where s.sighting_id = any($1::uuid[])", ids)}
        following = Cursor(page[-1]["added_at"], page[-1]["sighting_id"]).encode() if len(rows) > limit else None
        return [self._sighting(key, row, found.get(row["sighting_id"])) for row in page], following

    async def add_note(self, case_id: str, text: str, *, author: str) -> CaseNote:
        """Add a note. Raises NotFoundError."""
        key = uuid.uuid4()
        async with self._db.transaction() as tx:
            case = await self._locked(tx, case_id, None)
            sealed = tx.vault.seal(text.encode(), label=label_of("case note", key))
            rows = await tx.fetch(
                "insert into case_note (note_id, case_id, author, text) values ($1, $2, $3, $4) returning note_id, at, author, text",
                key,
                uuid.UUID(case.case_id),
                author,
                sealed,
            )
            await tx.execute(_TOUCH, uuid.UUID(case.case_id))
        return self._note(rows[0])

    async def remove_note(self, case_id: str, note_id: str) -> bool:
        """Delete a note; return whether it was there. Raises NotFoundError; ConflictError: a legal hold keeps it."""
        async with self._db.transaction() as tx:
            case = await self._locked(tx, case_id, None)
            _refuse_held(case, "delete its notes")
            key = parse_id(note_id)
            sql = "delete from case_note where case_id = $1 and note_id = $2"
            gone = await tx.execute(sql, uuid.UUID(case.case_id), key) if key else 0
            if gone:
                await tx.execute(_TOUCH, uuid.UUID(case.case_id))
        return bool(gone)

    async def notes(self, case_id: str, *, limit: int, cursor: str | None = None) -> tuple[list[CaseNote], str | None]:
        """Return a page of a case's notes, oldest first. Raises NotFoundError, UsageError."""
        case, behind = await self.get(case_id), Cursor.decode(cursor) if cursor else None
        limit = max(1, min(limit, MAX_PAGE))
        rows = await self._db.fetch(_NOTES, uuid.UUID(case.case_id), behind and behind.at, behind and behind.row_id, limit + 1)
        following = Cursor(rows[limit - 1]["at"], rows[limit - 1]["note_id"]).encode() if len(rows) > limit else None
        return [self._note(row) for row in rows[:limit]], following

    async def _locked(self, tx: Database, case_id: str, version: int | None) -> Case:
        key = parse_id(case_id)
        if key is not None:
            await tx.fetch("select from case_file where case_id = $1 for update", key)
        case = await CaseStore(tx, scope=self._scope).get(case_id)
        if version is not None and version != case.version:
            raise StaleError(f"case {case.case_id}: was changed meanwhile; read it again")
        return case

    def _sighting(self, case: uuid.UUID, row: dict[str, Any], stored: dict[str, Any] | None) -> CaseSighting:
        label = _sighting_label(case, row["sighting_id"])
        return CaseSighting(
            sighting_id=str(row["sighting_id"]),
            camera=row["camera"],
            first_s=seconds(row["first_at"]),
            note=None if row["note"] is None else self._db.vault.open(row["note"], label=label).decode(),
            added_s=seconds(row["added_at"]),
            added_by=row["added_by"],
            sighting=None if stored is None else stored_sighting(stored),
        )

    def _note(self, row: dict[str, Any]) -> CaseNote:
        text = self._db.vault.open(row["text"], label=label_of("case note", row["note_id"])).decode()
        return CaseNote(note_id=str(row["note_id"]), at_s=seconds(row["at"]), author=row["author"], text=text)


async def forget_cases(tx: Database, subject_id: uuid.UUID) -> int:
    """Take an erased subject's sightings out of all cases, with their notes, before they lose its id; return how many those were."""
    return await tx.execute(_FORGET, subject_id)


async def forget_case_sightings(tx: Database, sightings: Sequence[uuid.UUID]) -> None:
    """Take sightings out of all cases: they were dropped."""
    await tx.execute("delete from case_sighting where sighting_id = any($1::uuid[])", list(sightings))


async def expire_case_sightings(tx: Database, sightings: Sequence[uuid.UUID]) -> None:
    """Leave of sightings that retention erases only when and where they were."""
    await tx.execute("update case_sighting set note = null where sighting_id = any($1::uuid[])", list(sightings))


def _refuse_held(case: Case, to: str) -> None:
    if case.legal_hold:
        raise ConflictError(f"case {case.case_id}: is under a legal hold; lift it to {to}")


def _sighting_label(case_id: uuid.UUID, sighting_id: uuid.UUID) -> str:
    return f"{label_of('case sighting', sighting_id)} {case_id.hex}"


def _case(row: dict[str, Any]) -> Case:
    same = {name: row[name] for name in Case.__dataclass_fields__ if name in row and name != "case_id"}
    return Case(**same, case_id=str(row["case_id"]), created_s=seconds(row["created_at"]), updated_s=seconds(row["updated_at"]))
