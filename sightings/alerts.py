"""Alerts: a subject of a watchlist was seen. The SQL of the table ``alert``.

There is one alert for each watchlist and episode, whatever the order in which sightings arrive and however often. An alert covers a
stretch of time of one subject at one camera; an episode that overlaps a stretch that is covered already raises nothing, it extends the
alert. When a late sighting joins two episodes that have an alert each, both stay, linked to the joined episode: nobody is told twice of
the same sightings, and nothing that somebody was told disappears. When an identification is taken back, the alert stays without episode.
"""

import uuid
from collections.abc import Sequence
from typing import Any

from core.errors import UsageError
from core.ports import Database
from sightings.cursor import Cursor
from sightings.record import StoredAlert, at, seconds

CHANNEL = "alert"
"""Of NOTIFY; the payload is the alert's id."""
MAX_PAGE = 500
ALERT_NAMESPACE = uuid.UUID("5b1c7c1e-1a52-5d7a-8a7e-8e1d6a1f3b04")

_EXTEND = """
update alert a set first_at = least(a.first_at, e.first_at), last_at = greatest(a.last_at, e.last_at)
from episode e
where e.episode_id = any($1::uuid[]) and a.episode_id = e.episode_id and (a.first_at > e.first_at or a.last_at < e.last_at)
"""
# the foreign key has taken the link from the alerts of episodes that went: they belong to whatever covers their time now
_RELINK = """
update alert a set episode_id = f.episode_id, first_at = least(a.first_at, f.first_at), last_at = greatest(a.last_at, f.last_at)
from (
    select distinct on (lost.alert_id) lost.alert_id, e.episode_id, e.first_at, e.last_at
    from episode e
    join alert lost on lost.camera = e.camera and lost.subject_id = e.subject_id
        and lost.first_at <= e.last_at and lost.last_at >= e.first_at
    where e.episode_id = any($1::uuid[]) and lost.episode_id is null
    order by lost.alert_id, e.first_at
) f
where a.alert_id = f.alert_id
"""
_UNTOLD = """
select w.watchlist_id, w.name as watchlist, e.episode_id, e.camera, e.subject_id, b.subject, b.sighting_id, b.score, e.first_at, e.last_at
from episode e
join watchlist_subject l on l.subject_id = e.subject_id
join watchlist w on w.watchlist_id = l.watchlist_id and w.enabled
join sighting b on b.sighting_id = e.best_sighting_id
where e.episode_id = any($1::uuid[])
and exists (select from sighting s where s.episode_id = e.episode_id and w.watchlist_id <> all (s.weak_for))  -- its own threshold
and not exists (
    select from alert a
    where a.watchlist_id = w.watchlist_id and a.camera = e.camera and a.subject_id = e.subject_id
        and a.first_at <= e.last_at and a.last_at >= e.first_at)
order by e.first_at, w.name
"""
_COLUMNS = ("watchlist_id", "watchlist", "episode_id", "camera", "subject_id", "subject", "sighting_id", "score", "first_at", "last_at")
_RAISE = f"""
insert into alert (alert_id, {", ".join(_COLUMNS)}) values ({", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 2))})
on conflict (alert_id) do nothing returning *
"""
_SELECT = """
select a.alert_id, a.watchlist, a.camera, a.subject_id, coalesce(g.name, a.subject) as subject, a.sighting_id, a.score, a.episode_id,
       a.first_at, a.last_at, a.state, a.raised_at
from alert a left join subject g on g.subject_id = a.subject_id
"""
_FORGET = "update alert set subject_id = null, subject = null, sighting_id = null, score = null, episode_id = null where subject_id = $1"


async def follow_episodes(db: Database, episodes: Sequence[uuid.UUID]) -> None:
    """Keep alerts with their episodes after those were changed, merged or parted; part of the caller's transaction."""
    if episodes:
        await db.execute(_RELINK, list(episodes))
        await db.execute(_EXTEND, list(episodes))


async def raise_alerts(db: Database, episodes: Sequence[uuid.UUID]) -> list[StoredAlert]:
    """Raise the alerts that these episodes deserve and do not have; part of the caller's transaction, under its cameras' locks.

    Returns:
        The new ones, which other processes hear of (NOTIFY) when the transaction commits.
    """
    if not episodes:
        return []
    raised: list[StoredAlert] = []
    for row in await db.fetch(_UNTOLD, list(episodes)):
        alert_id = uuid.uuid5(ALERT_NAMESPACE, f"{row['watchlist_id']}\n{row['episode_id']}")
        for new in await db.fetch(_RAISE, alert_id, *(row[column] for column in _COLUMNS)):
            await db.fetch(f"select pg_notify('{CHANNEL}', $1)", str(alert_id))
            raised.append(_stored(new))
    return raised


async def forget_alerts(db: Database, subject_id: uuid.UUID) -> None:
    """Take an erased subject out of all alerts and watchlists; that there was an alert stays."""
    await db.execute("delete from watchlist_subject where subject_id = $1", subject_id)
    await db.execute(_FORGET, subject_id)


class AlertStore:
    """Reads alerts. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def query(
        self, *, watchlist: str | None = None, since_s: float | None = None, limit: int, cursor: str | None = None
    ) -> tuple[list[StoredAlert], str | None]:
        """Return a page of alerts, newest first, and the cursor of the next page (None at the end).

        Args:
            watchlist: name; None = all.
            since_s: Unix seconds: raised at or after it.
            limit: alerts a page.
            cursor: of the page before.

        Raises:
            UsageError: a cursor that is none of ours, or a time that is none.
        """
        if since_s is not None and not 0 <= since_s <= 32503680000:
            raise UsageError(f"since: {since_s} is not a Unix time between 1970 and 3000")
        limit = max(1, min(limit, MAX_PAGE))
        behind = Cursor.decode(cursor) if cursor else None
        rows = await self._db.fetch(
            _SELECT + "where ($1::text is null or a.watchlist = $1) and ($2::timestamptz is null or a.raised_at >= $2) "
            "and ($3::timestamptz is null or (a.raised_at, a.alert_id) < ($3, $4::uuid)) "
            f"order by a.raised_at desc, a.alert_id desc limit {limit + 1}",
            watchlist,
            None if since_s is None else at(since_s),
            behind and behind.at,
            behind and behind.row_id,
        )
        last = rows[limit - 1] if len(rows) > limit else None
        return [_stored(row) for row in rows[:limit]], Cursor(last["raised_at"], last["alert_id"]).encode() if last else None


def _stored(row: dict[str, Any]) -> StoredAlert:
    text: dict[str, Any] = {name: row[name] and str(row[name]) for name in ("alert_id", "subject_id", "sighting_id", "episode_id")}
    same: dict[str, Any] = {name: row[name] for name in ("watchlist", "camera", "subject", "score", "state")}
    times: dict[str, Any] = {f"{name}_s": seconds(row[f"{name}_at"]) for name in ("first", "last", "raised")}
    return StoredAlert(**text, **same, **times)
