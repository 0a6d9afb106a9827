"""Sightings and episodes in PostgreSQL: the SQL of this room, with sightings.rows and sightings.grouping.

Whatever the order and number of arrivals, the tables end up the same: the highest revision of a sighting wins whole, and episodes are a
function of the sightings (see sightings.episodes). Writers of one camera take turns through an advisory lock.
"""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from core.errors import NotFoundError
from core.events import Told, tell_each
from core.ports import Database
from core.schema import Sighting
from core.sealing import SealedColumn
from core.vault import label_of
from sightings.alerts_raise import follow_episodes, raise_alerts, tell_alerts
from sightings.alerts_strangers import raise_stranger_alerts, strangers_among
from sightings.cases import expire_case_sightings
from sightings.cursor import Cursor
from sightings.drops import drop, drop_subject, forget_drops
from sightings.grouping import spans_of, update_episodes
from sightings.locks import LOCK_CAMERAS, LOCK_FORGETTING, LOCK_FORGETTING_SHARED, LOCK_TO_STORE
from sightings.record import Arrival, Filter, Recorded, SeenFace, StoredEpisode, StoredSighting, at, parse_id, required_id
from sightings.rows import (
    SELECT_EPISODES,
    SELECT_FACES,
    SELECT_LISTED,
    SELECT_ONE,
    UPSERT_SIGHTING,
    seen_face,
    sighting_row,
    span_of,
    stored_episode,
    stored_sighting,
    told_of,
)
from sightings.rulings import rulings_on

SEALED = tuple(
    SealedColumn(
        table="sighting",
        key="sighting_id",
        column=column,
        label=lambda row, column=column: label_of(f"sighting {column}", row["sighting_id"]),  # type: ignore[misc]
    )
    for column in ("embedding", "thumbnail")
)
MAX_PAGE = 500
FACES_PAGE = 4000  # rows of 2 KB: 8 MB at a time

_CLOSE_SILENT = """
update sighting set closed = true
where sighting_id in (
    select sighting_id from sighting where not closed and revised_at < now() - $1::interval
    order by revised_at limit $2 for update skip locked)
returning sighting_id, revision, camera, collection
"""

Whose = Literal["subjects", "strangers", "everybody"]
_WHOSE: Mapping[Whose, str] = {"subjects": "outcome = 'subject'", "strangers": "outcome <> 'subject'", "everybody": "true"}


class SightingStore:
    """The record of what was seen. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, *, episode_gap: timedelta) -> None:
        self._db = db
        self._gap = episode_gap

    async def upsert(self, arrivals: Sequence[Arrival], *, now_s: float | None = None) -> list[StoredSighting]:
        """Store sightings as :meth:`record` does, and return those that changed, as people see them, by time of appearance."""
        changed = [sighting.sighting_id for sighting in (await self.record(arrivals, now_s=now_s)).sightings]
        return sorted(await self.listed(changed), key=lambda one: (one.sighting.first_s, one.sighting.sighting_id))

    async def record(self, arrivals: Sequence[Arrival], *, now_s: float | None = None) -> Recorded:
        """Store sightings, with the episodes they make and the alerts these raise, in one transaction.

        Args:
            arrivals: in any order, with repetitions; a revision that is not above the stored one changes nothing.
            now_s: Unix seconds; retention of new sightings counts from here. None = by the database's clock.

        Returns:
            What changed.

        Raises:
            UnavailableError: nothing was stored.
        """
        newest = _newest(arrivals)
        async with self._db.transaction() as db:
            await db.fetch(LOCK_TO_STORE, sorted({arrival.sighting.camera for arrival in newest}))
            stored = await spans_of(db, [uuid.UUID(arrival.sighting.sighting_id) for arrival in newest])
            changed = [arrival for arrival in newest if _is_newer(arrival.sighting, stored)]
            if not changed:
                return Recorded(sightings=[], alerts=[])
            kept, gone = (await rulings_on(db, changed)).apply(changed)
            await db.executemany(UPSERT_SIGHTING, [sighting_row(arrival, now_s, db.vault) for arrival in kept])
            if gone:
                await drop(db, gone)
            after = {span["sighting_id"]: span for span in (span_of(arrival.sighting) for arrival in kept)}
            episodes = await update_episodes(db, [stored[key] for key in (*after, *gone) if key in stored], after, gap=self._gap)
            await follow_episodes(db, episodes)
            alerts = await raise_alerts(db, episodes)
            alerts += await raise_stranger_alerts(db, *strangers_among(after, stored), gap=self._gap)
            news = [_told(arrival.sighting, stored) for arrival in kept]
            await tell_each(db, "sighting", news + [Told(key=str(key), revision=0) for key in gone])
            await tell_alerts(db, alerts)
        new = frozenset(str(key) for key in after if key not in stored)
        told = [alert for alert in alerts if alert.state == "new"]
        return Recorded(sightings=[arrival.sighting for arrival in kept], new=new, alerts=told, dropped=len(gone))

    async def opt_out(self, subject_id: str, *, erase_past: bool) -> int:
        """Wait for whoever stores sightings, and delete what is stored of a subject: part of the caller's transaction.

        Call it before the subject is noted as opted out in the same transaction: what is stored from then on leaves it out.

        Args:
            subject_id: who opts out.
            erase_past: False = what was stored before stays.

        Returns:
            How many sightings were deleted.
        """
        await self._db.fetch(LOCK_FORGETTING)
        if not erase_past:
            return 0
        gone = await drop_subject(self._db, required_id("subject", subject_id))
        await tell_each(self._db, "sighting", [Told(key=str(key), revision=0) for key in gone])
        return len(gone)

    async def close_silent(self, silence: timedelta, *, limit: int) -> int:
        """Close up to ``limit`` open sightings of which no revision arrived for so long, by the database's clock: their recognizer died.

        A later revision opens them again. Any number of processes may do this at once.

        Returns:
            How many were closed by this call.
        """
        async with self._db.transaction() as db:
            closed = await db.fetch(_CLOSE_SILENT, silence, limit)
            await tell_each(db, "sighting", [told_of(row) for row in closed])
        return len(closed)

    async def get(self, sighting_id: str) -> StoredSighting:
        """Return one sighting with its path.

        Raises:
            NotFoundError: if there is none of this id.
        """
        rows = await self._db.fetch(SELECT_ONE + "where s.sighting_id = $1", required_id("sighting", sighting_id))
        if not rows:
            raise NotFoundError(f"sighting {sighting_id}: there is none")
        return stored_sighting(rows[0])

    async def thumbnail(self, sighting_id: str) -> bytes:
        """Return the JPEG of a sighting's best shot.

        Raises:
            NotFoundError: if there is no such sighting, or it has no picture (erased, for example).
        """
        rows = await self._db.fetch("select thumbnail from sighting where sighting_id = $1", required_id("sighting", sighting_id))
        if not rows or rows[0]["thumbnail"] is None:
            raise NotFoundError(f"sighting {sighting_id}: there is no picture of it")
        return self._db.vault.open(rows[0]["thumbnail"], label=label_of("sighting thumbnail", sighting_id))

    async def listed(self, sighting_ids: Sequence[str]) -> list[StoredSighting]:
        """Return those of the sightings that are there, without their paths, in the order asked for."""
        rows = await self._db.fetch(SELECT_LISTED + "where s.sighting_id = any($1::uuid[])", list(sighting_ids))
        found = {str(row["sighting_id"]): stored_sighting(row) for row in rows}
        return [found[key] for key in sighting_ids if key in found]

    async def faces(self, sighting_ids: Sequence[str]) -> list[SeenFace]:
        """Return the faces of those of the sightings that have one, in no order."""
        rows = await self._db.fetch(SELECT_FACES + "where s.sighting_id = any($1::uuid[]) and embedding is not null", list(sighting_ids))
        return [face for row in rows if (face := seen_face(row, self._db.vault))]

    async def stream_faces(self, model: str, *, limit: int) -> AsyncIterator[list[SeenFace]]:
        """Yield the faces that a model has embedded, newest appearance first, page by page; no snapshot is held between pages."""
        last: tuple[datetime, uuid.UUID] | None = None
        while limit > 0:
            rows = await self._db.fetch(
                SELECT_FACES + "where s.embedding is not null and s.model = $1 and ($2::timestamptz is null "
                "or (s.first_at, s.sighting_id) < ($2, $3)) order by s.first_at desc, s.sighting_id desc limit $4",
                model,
                *(last or (None, None)),
                min(limit, FACES_PAGE),
            )
            if not rows:
                return
            yield [face for row in rows if (face := seen_face(row, self._db.vault))]
            last = rows[-1]["first_at"], rows[-1]["sighting_id"]
            limit -= len(rows)

    async def count_faces(self, model: str) -> int:
        """Return how many sightings have a face that a model has embedded."""
        rows = await self._db.fetch("select count(*) as n from sighting where embedding is not null and model = $1", model)
        return int(rows[0]["n"])

    async def query(self, wanted: Filter, *, limit: int, cursor: str | None = None) -> tuple[list[StoredSighting], str | None]:
        """Return a page of sightings, newest appearance first, and the cursor of the next page (None at the end).

        Raises:
            UsageError: if the cursor is none of ours.
        """
        rows, following = await self._page(SELECT_LISTED, "sighting_id", wanted, limit=limit, cursor=cursor)
        return [stored_sighting(row) for row in rows], following

    async def episodes(self, wanted: Filter, *, limit: int, cursor: str | None = None) -> tuple[list[StoredEpisode], str | None]:
        """Return a page of episodes, newest beginning first, and the cursor of the next page (None at the end).

        Raises:
            UsageError: if the cursor is none of ours.
        """
        rows, following = await self._page(SELECT_EPISODES, "episode_id", wanted, limit=limit, cursor=cursor)
        return [stored_episode(row) for row in rows], following

    async def now_s(self) -> float:
        """Return the database's time, Unix seconds: the one clock of all that write and erase."""
        return float((await self._db.fetch("select extract(epoch from now())::float8 as now_s"))[0]["now_s"])

    async def delete_stored_before(self, before_s: float, *, limit: int, whose: Whose = "everybody") -> int:
        """Delete up to ``limit`` sightings that were stored before a time, pictures, embeddings and episodes with them, in one transaction.

        Those that a case holds stay.

        Returns:
            How many were deleted; 0 means that none is left.
        """
        async with self._db.transaction() as db:
            await db.fetch(LOCK_FORGETTING_SHARED)
            old = await db.fetch(
                f"select sighting_id, camera from sighting where stored_at < $1 and {_WHOSE[whose]} "
                "and not sighting_is_held(sighting_id) order by stored_at limit $2",
                at(before_s),
                limit,
            )
            await db.fetch(LOCK_CAMERAS, sorted({row["camera"] for row in old}))
            ids = [row["sighting_id"] for row in old]
            gone = list((await spans_of(db, ids)).values())
            await db.execute("delete from sighting where sighting_id = any($1::uuid[])", ids)
            await expire_case_sightings(db, ids)
            await follow_episodes(db, await update_episodes(db, gone, {}, gap=self._gap))
            await forget_drops(db)
            told = [Told(key=str(row["sighting_id"]), revision=row["revision"], camera=row["camera"], news=False) for row in gone]
            await tell_each(db, "sighting", told)
        return len(gone)

    async def _page(
        self, select: str, id_column: str, wanted: Filter, *, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        limit = max(1, min(limit, MAX_PAGE))
        where, args = _conditions(wanted, Cursor.decode(cursor) if cursor else None, id_column)
        sql = f"{select} {where} order by s.first_at desc, s.{id_column} desc limit {limit + 1}"
        rows = await self._db.fetch(sql, *args)
        last = rows[limit - 1] if len(rows) > limit else None
        return rows[:limit], Cursor(last["first_at"], last[id_column]).encode() if last else None


def _told(sighting: Sighting, before: Mapping[uuid.UUID, dict[str, Any]]) -> Told:
    """Say what others are told; it is news when somebody appears, is known by another name, or leaves."""
    was = before.get(uuid.UUID(sighting.sighting_id))
    subject_id = sighting.subject_id and uuid.UUID(sighting.subject_id)
    same = was is not None and (was["outcome"], was["subject_id"]) == (sighting.outcome, subject_id)
    return Told(
        key=str(uuid.UUID(sighting.sighting_id)),
        revision=sighting.revision,
        camera=sighting.camera,
        collection=sighting.collection,
        news=sighting.closed or not same,
    )


def _is_newer(sighting: Sighting, stored: Mapping[uuid.UUID, dict[str, Any]]) -> bool:
    before = stored.get(uuid.UUID(sighting.sighting_id))
    return before is None or before["revision"] < sighting.revision


def _newest(arrivals: Sequence[Arrival]) -> list[Arrival]:
    newest: dict[str, Arrival] = {}
    for arrival in arrivals:
        key = str(uuid.UUID(arrival.sighting.sighting_id))
        if key not in newest or newest[key].sighting.revision < arrival.sighting.revision:
            newest[key] = arrival
    return list(newest.values())


def _conditions(wanted: Filter, cursor: Cursor | None, id_column: str) -> tuple[str, list[Any]]:
    """Return a WHERE clause with its arguments; every value is an argument, none becomes SQL."""
    parts: list[str] = []
    args: list[Any] = []

    def add(part: str, *values: Any) -> None:
        places = [f"${len(args) + n}" for n in range(1, len(values) + 1)]
        args.extend(values)
        parts.append(part.format(*places))

    if wanted.camera is not None:
        add("s.camera = {}", wanted.camera)
    if wanted.cameras is not None:
        add("s.camera = any({}::text[])", sorted(wanted.cameras))
    if wanted.collections is not None:
        add(("s" if id_column == "sighting_id" else "b") + ".collection = any({}::text[])", sorted(wanted.collections))
    if wanted.subject is not None:
        subject_id = parse_id(wanted.subject)
        add("s.subject_id = {}", subject_id) if subject_id else add(
            "s.subject_id in (select subject_id from subject where name = {})", wanted.subject
        )
    if wanted.outcome is not None:
        add("s.outcome = {}", wanted.outcome)
    if wanted.since_s is not None:
        add("s.last_at >= {}", at(wanted.since_s))
    if wanted.until_s is not None:
        add("s.first_at < {}", at(wanted.until_s))
    if cursor:
        add(f"(s.first_at, s.{id_column}) < ({{}}, {{}})", cursor.at, cursor.row_id)
    return ("where " + " and ".join(parts) if parts else ""), args
