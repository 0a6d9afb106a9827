"""Thresholds and opt-outs in PostgreSQL, and the snapshot of all rules: the SQL of this room.

``feedback`` is owned by sightings/; this reads its exemplars.
"""

import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from core.errors import NotFoundError, StaleError
from core.ports import Database
from core.types import F32
from core.vault import label_of
from recognize.rules.rules import DEPLOYMENT_KEY, LEVELS, Level, ListedOn, Rules
from recognize.rules.target import Target

CHANNEL = "rules"
"""Of NOTIFY, by triggers, for each commit that changes what the snapshot holds."""
MAX_PAGE = 500

_COLUMNS = "level, key, score, far, fpir, version, updated_by, updated_at"
_PUT = f"""
insert into threshold (level, key, score, far, fpir, updated_by) values ($1, $2, $3, $4, $5, $6)
on conflict (level, key) do update set score = excluded.score, far = excluded.far, fpir = excluded.fpir,
    version = threshold.version + 1, updated_by = excluded.updated_by, updated_at = now()
returning {_COLUMNS}
"""
_LOCK = "select pg_advisory_xact_lock(hashtextextended('sightline/threshold/' || $1 || '/' || $2, 0))"
_LISTED = """
select l.subject_id, w.watchlist_id, w.name
from threshold t join watchlist w on w.name = t.key and w.enabled join watchlist_subject l using (watchlist_id)
where t.level = 'watchlist'
"""
_EXEMPLARS = "select feedback_id, subject_id, model, embedding from feedback where verdict = 'wrong_person'"
Grants = tuple[list[str] | None, list[str] | None, list[str] | None]
"""Collections, watchlists and camera groups whose thresholds somebody may see; None = all."""
EVERYTHING: Grants = (None, None, None)
# of a threshold t; $1 to $3 are grants
_GRANTED = """(
    t.level = 'deployment'
    or (t.level = 'collection' and ($1::text[] is null or t.key = any($1)))
    or (t.level = 'watchlist' and ($2::text[] is null or t.key = any($2))
        and exists (select from watchlist w where w.name = t.key and ($1 is null or w.collection = any($1))))
    or (t.level = 'camera' and ($3::text[] is null or exists (select from camera c where c.name = t.key and c.groups && $3)))
    or (t.level = 'subject' and exists (
        select from subject s where s.subject_id::text = t.key and ($1 is null or s.collection = any($1)))))"""
_ONE = f"select {_COLUMNS} from threshold t where {_GRANTED} and t.level = $4 and t.key = $5"
_MANY = f"""
select {_COLUMNS} from threshold t
where {_GRANTED} and ($4::text is null or t.level = $4) and (array_position($5::text[], t.level) - 1, t.key) > ($6, $7)
order by array_position($5::text[], t.level), t.key limit $8
"""
_OWNER = f"select from (select $4::text as level, $5::text as key) t where {_GRANTED}"
_OWNERS = {
    "collection": "select from collection where name = $1",
    "watchlist": "select from watchlist where name = $1",
    "camera": "select from camera where name = $1",
    "subject": "select from subject where subject_id::text = $1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What is set at one place."""

    level: Level
    key: str
    target: Target
    version: int
    updated_by: str
    updated_at: datetime


class ThresholdStore:
    """The table ``threshold``. What is not granted is as if it were not there. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, grants: Grants = EVERYTHING) -> None:
        self._db = db
        self._grants = grants

    async def put(self, level: Level, key: str, target: Target, *, actor: str, version: int | None = None) -> Threshold:
        """Set a threshold; every process follows within a second.

        Args:
            level: where it applies.
            key: ``default`` for the deployment, a name, or a subject's id.
            target: what is asked for.
            actor: who sets it.
            version: that it must have had before; 0 = none was set, None = any.

        Raises:
            NotFoundError: there is nothing of this name. StaleError: it has another version by now.
        """
        async with self._db.transaction() as tx:
            await tx.fetch(_LOCK, level, key)
            await self._check_owner(tx, level, key)
            if version is not None:
                await _check_version(tx, level, key, version)
            rows = await tx.fetch(_PUT, level, key, target.score, target.far, target.fpir, actor)
        return _threshold(rows[0])

    async def get(self, level: Level, key: str) -> Threshold:
        """Return what is set at a place. Raises NotFoundError."""
        rows = await self._db.fetch(_ONE, *self._grants, level, key)
        if not rows:
            raise _unset(level, key)
        return _threshold(rows[0])

    async def all(self, *, level: Level | None = None, after: tuple[int, str] = (-1, ""), limit: int = MAX_PAGE) -> list[Threshold]:
        """Return a page of thresholds, by level, then key: those behind ``after`` (number of the level, key)."""
        limit = max(1, min(limit, MAX_PAGE + 1))
        return [_threshold(row) for row in await self._db.fetch(_MANY, *self._grants, level, list(LEVELS), *after, limit)]

    async def delete(self, level: Level, key: str, *, version: int | None = None) -> Threshold:
        """Set nothing at a place any more, and return what was set. Raises NotFoundError, StaleError."""
        async with self._db.transaction() as tx:
            await tx.fetch(_LOCK, level, key)
            before = await ThresholdStore(tx, self._grants).get(level, key)
            if version is not None:
                await _check_version(tx, level, key, version)
            await tx.execute("delete from threshold where level = $1 and key = $2", level, key)
        return before

    async def rules_of(self, subject_id: str | None) -> Rules:
        """Return the thresholds that are committed, with the watchlists of one subject: to explain which one applies to it."""
        async with self._db.transaction() as tx:
            thresholds = await tx.fetch(f"select {_COLUMNS} from threshold where level <> 'subject' or key = $1", subject_id or "")
            listed = await tx.fetch(_LISTED + "and l.subject_id = $1", uuid.UUID(subject_id)) if subject_id else []
        return Rules(targets=_targets(thresholds), listed=_lists(listed))

    async def _check_owner(self, tx: Database, level: Level, key: str) -> None:
        if level == "deployment":
            if key != DEPLOYMENT_KEY:
                raise NotFoundError(f"threshold deployment/{key[:64]}: the deployment's key is '{DEPLOYMENT_KEY}'")
            return
        owned = await tx.fetch(f"{_OWNERS[level]} for key share", key) and await tx.fetch(_OWNER, *self._grants, level, key)
        if not owned:
            raise NotFoundError(f"{level} '{key[:64]}': there is none")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """Somebody who must be matched and then dropped."""

    subject_id: str
    collection: str
    reason: str
    set_by: str
    set_at: datetime


_OPT_OUTS = "select o.subject_id, s.collection, o.reason, o.set_by, o.set_at from opt_out o join subject s using (subject_id) "
_OPT_OUT = """
insert into opt_out (subject_id, reason, set_by) values ($1, $2, $3)
on conflict (subject_id) do update set reason = excluded.reason, set_by = excluded.set_by, set_at = now()
"""


class OptOutStore:
    """The table ``opt_out``. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def put(self, subject_id: str, *, reason: str, actor: str) -> OptOut:
        """Let a subject be matched and then dropped, by every process within a second. Raises NotFoundError: no such subject."""
        key = uuid.UUID(subject_id)
        async with self._db.transaction() as tx:
            if not await tx.fetch("select from subject where subject_id = $1 for key share", key):
                raise NotFoundError(f"subject '{subject_id}': there is none")
            await tx.execute(_OPT_OUT, key, reason, actor)
            rows = await tx.fetch(_OPT_OUTS + "where o.subject_id = $1", key)
        return _opt_out(rows[0])

    async def all(self, *, collections: list[str] | None = None, after: str | None = None, limit: int = MAX_PAGE) -> list[OptOut]:
        """Return a page of those who have opted out, by id: those behind ``after``; of these collections only, None = of all."""
        rows = await self._db.fetch(
            _OPT_OUTS + "where ($1::text[] is null or s.collection = any($1)) and ($2::uuid is null or o.subject_id > $2) "
            "order by o.subject_id limit $3",
            collections,
            None if after is None else uuid.UUID(after),
            max(1, min(limit, MAX_PAGE + 1)),
        )
        return [_opt_out(row) for row in rows]

    async def delete(self, subject_id: str) -> None:
        """Tell of a subject again. Raises NotFoundError: it has not opted out."""
        if not await self._db.execute("delete from opt_out where subject_id = $1", uuid.UUID(subject_id)):
            raise NotFoundError(f"subject '{subject_id}': has not opted out")


class RulesReader:
    """Reads the snapshot; an exemplar is decrypted once. Thread rule: one event loop, one call at a time."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._opened: dict[uuid.UUID, F32] = {}

    async def read(self) -> Rules:
        """Return the rules as they are committed. Raises UnavailableError; SettingsError: an exemplar's key is not here."""
        async with self._db.transaction() as tx:
            await tx.execute("set transaction isolation level repeatable read read only")
            thresholds = await tx.fetch(f"select {_COLUMNS} from threshold")
            listed = await tx.fetch(_LISTED)
            opted_out = await tx.fetch("select subject_id from opt_out")
            feedback = await tx.fetch(_EXEMPLARS)
        return Rules(
            targets=_targets(thresholds),
            listed=_lists(listed),
            opted_out=frozenset(str(row["subject_id"]) for row in opted_out),
            exemplars=self._exemplars(feedback),
        )

    def _exemplars(self, rows: list[dict[str, Any]]) -> dict[tuple[str, str], F32]:
        opened: dict[uuid.UUID, F32] = {}
        vectors: dict[tuple[str, str], list[F32]] = defaultdict(list)
        for row in rows:
            key = row["feedback_id"]
            vector = self._opened.get(key)
            if vector is None:
                data = self._db.vault.open(row["embedding"], label=label_of("exemplar", key))  # as sightings.feedback seals it
                vector = np.frombuffer(data, "<f4").astype(np.float32)
            opened[key] = vector
            vectors[str(row["subject_id"]), row["model"]].append(vector)
        self._opened = opened
        return {key: np.stack(ones) for key, ones in vectors.items()}


async def _check_version(tx: Database, level: Level, key: str, version: int) -> None:
    rows = await tx.fetch("select version from threshold where level = $1 and key = $2", level, key)
    now = rows[0]["version"] if rows else 0
    if now != version:
        raise StaleError(f"threshold {level}/{key}: has version {now} by now, not {version}; read it again")


def _targets(rows: list[dict[str, Any]]) -> dict[tuple[Level, str], Target]:
    return {(row["level"], row["key"]): _threshold(row).target for row in rows}


def _lists(rows: list[dict[str, Any]]) -> dict[str, tuple[ListedOn, ...]]:
    lists: dict[str, list[ListedOn]] = defaultdict(list)
    for row in rows:
        lists[str(row["subject_id"])].append(ListedOn(watchlist_id=str(row["watchlist_id"]), name=row["name"]))
    return {subject_id: tuple(ones) for subject_id, ones in lists.items()}


def _unset(level: Level, key: str) -> NotFoundError:
    return NotFoundError(f"threshold {level}/{key[:64]}: none is set")


def _threshold(row: dict[str, Any]) -> Threshold:
    target = Target(score=row["score"], far=row["far"], fpir=row["fpir"])
    same = {name: row[name] for name in ("level", "key", "version", "updated_by", "updated_at")}
    return Threshold(**same, target=target)


def _opt_out(row: dict[str, Any]) -> OptOut:
    return OptOut(**{**row, "subject_id": str(row["subject_id"])})
