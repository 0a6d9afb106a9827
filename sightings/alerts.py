"""Alerts as people read them: lists, counts, one with its history.

What raises them is sightings.alerts_raise; what people do to them is sightings.alerts_acts.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.errors import NotFoundError, UsageError
from core.ports import Database
from core.vault import label_of
from sightings.cursor import Cursor
from sightings.record import LATEST_S, AlertState, StoredAlert, at, parse_id, seconds
from sightings.scope import EVERYTHING, Scope

MAX_PAGE = 500
SELECT_ALERTS: Final = """
select a.alert_id, a.kind, a.watchlist, a.collection, a.camera, a.subject_id, coalesce(g.name, a.subject) as subject, a.sighting_id,
       a.score, a.episode_id, a.first_at, a.last_at, a.state, a.raised_at, a.acknowledgement, a.acknowledged_by, a.acknowledged_at,
       a.assigned_to, w.colour, w.sound, a.version
from alert a left join subject g on g.subject_id = a.subject_id left join watchlist w on w.watchlist_id = a.watchlist_id
"""
IN_SCOPE: Final = """
($1::text[] is null or a.collection = any($1)) and ($2::text[] is null or a.watchlist = any($2))
and ($3::text[] is null or exists (select from camera c where c.name = a.camera and c.groups && $3))
"""
"""Of the alias ``a``; its arguments are ``Scope.lists()``."""
_WANTED = f"""
where {IN_SCOPE} and ($4::text is null or a.watchlist = $4) and ($5::timestamptz is null or a.raised_at >= $5)
and ($6::timestamptz is null or a.raised_at < $6) and ($7::text is null or a.state = $7) and ($8::text is null or a.camera = $8)
and ($9::uuid is null or a.subject_id = $9)
and ($10::text is null or a.subject_id in (select subject_id from subject where name = $10))
and ($11::text is null or a.assigned_to = $11) and (not $12::boolean or (a.acknowledgement and a.state = 'new'))
"""
_HISTORY = """
select history_id, at, actor, name, action, before, after, assigned_to, comment from alert_history where alert_id = $1 order by history_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts are asked for; None asks for all."""

    watchlist: str | None = None
    since_s: float | None = None
    """Unix seconds: raised at or after it."""
    until_s: float | None = None
    """Unix seconds: raised before it."""
    state: AlertState | None = None
    camera: str | None = None
    subject: str | None = None
    """A subject's id, or its present name."""
    assigned_to: str | None = None
    unacknowledged: bool = False
    """Only those that somebody must acknowledge and nobody has."""

    def __post_init__(self) -> None:
        for name, time_s in (("since", self.since_s), ("until", self.until_s)):
            if time_s is not None and not 0 <= time_s <= LATEST_S:
                raise UsageError(f"{name}: {time_s} is not a Unix time between 1970 and 3000")
        for name in ("watchlist", "camera", "subject", "assigned_to"):
            if "\x00" in (getattr(self, name) or ""):
                raise UsageError(f"{name}: holds a NUL character")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEntry:
    """One line of an alert's history."""

    at_s: float
    actor: str
    name: str
    """Of the actor, for people."""
    action: str
    before: AlertState
    after: AlertState
    assigned_to: str | None
    comment: str | None
    """None too once the person was erased."""


class AlertStore:
    """Reads alerts. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def query(
        self, wanted: AlertFilter | None = None, *, scope: Scope = EVERYTHING, limit: int, cursor: str | None = None
    ) -> tuple[list[StoredAlert], str | None]:
        """Return a page of alerts, newest first, and the cursor of the next page (None at the end).

        Args:
            wanted: which.
            scope: of who asks.
            limit: alerts a page.
            cursor: of the page before.

        Raises:
            UsageError: a cursor that is none of ours.
        """
        limit = max(1, min(limit, MAX_PAGE))
        behind = Cursor.decode(cursor) if cursor else None
        rows = await self._db.fetch(
            f"{SELECT_ALERTS}{_WANTED} and ($13::timestamptz is null or (a.raised_at, a.alert_id) < ($13, $14::uuid)) "
            f"order by a.raised_at desc, a.alert_id desc limit {limit + 1}",
            *_arguments(scope, wanted or AlertFilter()),
            behind and behind.at,
            behind and behind.row_id,
        )
        last = rows[limit - 1] if len(rows) > limit else None
        return [stored_alert(row) for row in rows[:limit]], Cursor(last["raised_at"], last["alert_id"]).encode() if last else None

    async def counts(self, wanted: AlertFilter | None = None, *, scope: Scope = EVERYTHING) -> dict[AlertState, int]:
        """Return how many alerts there are in each state; states without any are left out."""
        sql = f"select a.state, count(*) as alerts from alert a {_WANTED} group by a.state"
        return {row["state"]: row["alerts"] for row in await self._db.fetch(sql, *_arguments(scope, wanted or AlertFilter()))}

    async def get(self, alert_id: str, *, scope: Scope = EVERYTHING) -> StoredAlert:
        """Return one alert.

        Raises:
            NotFoundError: there is none of this id, for who asks.
        """
        key = parse_id(alert_id)
        rows = await self._db.fetch(f"{SELECT_ALERTS} where {IN_SCOPE} and a.alert_id = $4", *scope.lists(), key) if key else []
        if not rows:
            raise no_alert(alert_id)
        return stored_alert(rows[0])

    async def listed(self, alert_ids: Sequence[str]) -> list[StoredAlert]:
        """Return those of the alerts that are there, in no order."""
        ids = [key for text in alert_ids if (key := parse_id(text))]
        return [stored_alert(row) for row in await self._db.fetch(f"{SELECT_ALERTS} where a.alert_id = any($1::uuid[])", ids)]

    async def history(self, alert_id: str) -> list[AlertEntry]:
        """Return who did what to an alert, oldest first."""
        return [self._entry(row, alert_id) for row in await self._db.fetch(_HISTORY, uuid.UUID(alert_id))]

    def _entry(self, row: dict[str, Any], alert_id: str) -> AlertEntry:
        same = {name: row[name] for name in ("actor", "name", "action", "before", "after", "assigned_to")}
        sealed = row["comment"]
        comment = None if sealed is None else self._db.vault.open(sealed, label=label_of("alert comment", alert_id)).decode()
        return AlertEntry(**same, at_s=seconds(row["at"]), comment=comment)


def no_alert(alert_id: str) -> NotFoundError:
    """Return the error of an alert that is not there, or not for who asks."""
    return NotFoundError(f"alert {alert_id[:64]}: there is none")


def stored_alert(row: dict[str, Any]) -> StoredAlert:
    """Read a row of SELECT_ALERTS, or of ``alert`` with colour and sound."""
    text: dict[str, Any] = {name: row[name] and str(row[name]) for name in ("alert_id", "subject_id", "sighting_id", "episode_id")}
    given = StoredAlert.__dataclass_fields__
    same: dict[str, Any] = {name: row[name] for name in given if name in row and name not in text}
    times: dict[str, Any] = {f"{name}_s": seconds(row[f"{name}_at"]) for name in ("first", "last", "raised")}
    acknowledged = row["acknowledged_at"]
    return StoredAlert(**text, **same, **times, acknowledged_s=None if acknowledged is None else seconds(acknowledged))


def _arguments(scope: Scope, wanted: AlertFilter) -> tuple[Any, ...]:
    subject_id = parse_id(wanted.subject) if wanted.subject else None
    return (
        *scope.lists(),
        wanted.watchlist,
        None if wanted.since_s is None else at(wanted.since_s),
        None if wanted.until_s is None else at(wanted.until_s),
        wanted.state,
        wanted.camera,
        subject_id,
        None if subject_id else wanted.subject,
        wanted.assigned_to,
        wanted.unacknowledged,
    )
