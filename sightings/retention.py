"""Erases what is older than it may be, class by class. The one place that says how long each class of data is kept."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from core.audit.store import AuditStore
from core.errors import UnavailableError
from core.events import expire_events
from core.metrics import Metrics
from core.ports import Database
from core.settings import Settings
from sightings.store import SightingStore, Whose

CHUNK = 500  # rows a transaction: a camera's writers wait for one chunk at most
PAUSE_S = 0.05  # between chunks, so that a long clean-up leaves the database to others
EVERY_S = 600.0
OVERDUE = timedelta(hours=1)
STORED = "when it was stored"

_log = structlog.get_logger(__name__)

Remove = Callable[[Database, timedelta, int], Awaitable[int]]
"""Removes up to so many rows older than this, by the database's clock, in one transaction; returns how many; 0 = none is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataClass:
    """A class of data: how long it is kept, and how it ends."""

    name: str
    keep: timedelta | None
    """None = for ever."""
    counted_from: str
    oldest: str
    """SQL of the time of the oldest row."""
    remove: Remove | None
    """None = another service of the platform removes it by the same policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How a class is kept at the moment."""

    of: DataClass
    oldest_at: datetime | None
    age: timedelta
    """Of the oldest row, by the database's clock."""

    @property
    def overdue(self) -> bool:
        """Whether something is older than it may be by more than the job's rhythm explains."""
        return self.of.keep is not None and self.oldest_at is not None and self.age > self.of.keep + OVERDUE


def data_classes(settings: Settings) -> tuple[DataClass, ...]:
    """Return all classes of data of a deployment."""
    own, all_of_it = settings.retention, settings.sightings.retention_days
    gap = timedelta(seconds=settings.sightings.episode_gap_s)
    audit_days = settings.audit.retention_days
    return (
        _sightings("sightings of subjects", all_of_it, "subjects", gap),
        _sightings("sightings of strangers", own.strangers_days or all_of_it, "strangers", gap),
        _emptied("thumbnails", own.thumbnails_days or all_of_it, "thumbnail"),
        _emptied("embeddings of sightings", own.embeddings_days or all_of_it, "embedding"),
        _rows("alerts", own.alerts_days or all_of_it, "alert", "greatest(raised_at, last_at)", "when it was raised, or last grew"),
        _rows("photos set aside", settings.enrollment.set_aside_days, "set_aside", "created_at", "when it was sent"),
        _rows("answers to repeated requests", 1.0, "idempotent_request", "began_at", "when it was asked"),
        _rows("requests of keys", 2.0, "api_key_day", "day::timestamptz", "when their day began"),
        _rows("sessions", 0.001, "api_session", "ends_at", "when it ended"),
        _elsewhere("jobs", settings.jobs.retention_days, "job", "finished_at", "when it ended"),
        _elsewhere("uploads", settings.storage.upload_keep_days, "upload", "created_at", "when it was asked for"),
        _elsewhere("webhook deliveries", settings.events.keep_days, "webhook_delivery", "finished_at", "when it ended"),
        DataClass(
            name="events",
            keep=timedelta(days=settings.events.keep_days),
            counted_from="when it happened",
            oldest="select min(at) as at from event",
            remove=lambda db, keep, _limit: expire_events(db, keep),
        ),
        DataClass(
            name="audit",
            keep=None if audit_days is None else timedelta(days=audit_days),
            counted_from="when it happened",
            oldest="select at from audit order by seq limit 1",
            remove=lambda db, keep, _limit: AuditStore(db).prune(keep),
        ),
    )


async def kept_now(db: Database, classes: Sequence[DataClass]) -> list[Kept]:
    """Return how each class is kept at the moment."""
    found = []
    for one in classes:
        rows = await db.fetch(f"select at, now() - at as age from ({one.oldest}) t (at)")
        at = rows[0]["at"] if rows else None
        found.append(Kept(of=one, oldest_at=at, age=rows[0]["age"] if at else timedelta(0)))
    return found


class Retention:
    """Keeps all classes no longer than allowed, by the database's clock. Any number of processes may run it at once."""

    def __init__(self, *, db: Database, classes: Sequence[DataClass], metrics: Metrics) -> None:
        self._db, self._classes, self._metrics = db, classes, metrics

    async def run(self) -> None:
        """Clean up now and then every ten minutes, until cancelled. Waits while the database is away."""
        while True:
            try:
                await self.clean_up()
            except UnavailableError as err:
                _log.warning("retention waits", reason=str(err), retry_s=EVERY_S)
            await asyncio.sleep(EVERY_S)

    async def clean_up(self) -> int:
        """Erase all that is too old, in chunks, and return how many rows that were.

        Raises:
            UnavailableError: what was erased so far stays erased; the next run goes on.
        """
        total = 0
        for one in self._classes:
            if one.keep is not None and one.remove is not None:
                total += await self._clean(one.name, one.keep, one.remove)
        for now in await kept_now(self._db, self._classes):
            self._metrics.retention_oldest.labels(now.of.name).set(now.age.total_seconds())
        self._metrics.sightings_retention_ran.set(time.time())
        return total

    async def _clean(self, name: str, keep: timedelta, remove: Remove) -> int:
        total = 0
        while removed := await remove(self._db, keep, CHUNK):
            total += removed
            self._metrics.retention_removed.labels(name).inc(removed)
            if name.startswith("sightings"):
                self._metrics.sightings_expired.inc(removed)
            await asyncio.sleep(PAUSE_S)
        return total


def _sightings(name: str, days: float, whose: Whose, gap: timedelta) -> DataClass:
    async def remove(db: Database, keep: timedelta, limit: int) -> int:
        store = SightingStore(db, episode_gap=gap)
        return await store.delete_stored_before(await store.now_s() - keep.total_seconds(), limit=limit, whose=whose)

    which = "= 'subject'" if whose == "subjects" else "<> 'subject'"
    oldest = f"select min(stored_at) as at from sighting where outcome {which}"
    return DataClass(name=name, keep=timedelta(days=days), counted_from=STORED, oldest=oldest, remove=remove)


def _emptied(name: str, days: float, column: str) -> DataClass:
    """Return a class that is a column of sightings; those that are held (cases) keep it."""
    sql = (
        f"update sighting set {column} = null where sighting_id in (select sighting_id from sighting where {column} is not null "
        "and stored_at < now() - $1::interval and not sighting_is_held(sighting_id) order by stored_at limit $2)"
    )
    return DataClass(
        name=name,
        keep=timedelta(days=days),
        counted_from=STORED,
        oldest=f"select min(stored_at) as at from sighting where {column} is not null",
        remove=lambda db, keep, limit: db.execute(sql, keep, limit),
    )


def _rows(name: str, days: float, table: str, column: str, counted_from: str) -> DataClass:
    """Return a class that is a table, whose rows simply go."""
    sql = f"delete from {table} where ctid = any(array(select ctid from {table} where {column} < now() - $1::interval limit $2))"
    return DataClass(
        name=name,
        keep=timedelta(days=days),
        counted_from=counted_from,
        oldest=f"select min({column}) as at from {table}",
        remove=lambda db, keep, limit: db.execute(sql, keep, limit),
    )


def _elsewhere(name: str, days: float, table: str, column: str, counted_from: str) -> DataClass:
    """Return a class that its own service cleans up, for it has more than rows."""
    oldest = f"select min({column}) as at from {table}"
    return DataClass(name=name, keep=timedelta(days=days), counted_from=counted_from, oldest=oldest, remove=None)
