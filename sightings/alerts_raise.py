"""Raises alerts: a subject of a watchlist was seen. Writes the table ``alert`` in the transaction that stores sightings.

There is one alert for each watchlist and episode, whatever the order in which sightings arrive and however often. An alert covers a
stretch of time of one subject at one camera; an episode that overlaps a stretch that is covered already raises nothing, it extends the
alert. When a late sighting joins two episodes that have an alert each, both stay, linked to the joined episode: nobody is told twice of
the same sightings, and nothing that somebody was told disappears. When an identification is taken back, the alert stays without episode.
"""

import uuid
from collections.abc import Sequence

from core.events import Told, tell_each
from core.ports import Database
from sightings.alerts import stored_alert
from sightings.hours import intervals_of, is_active
from sightings.record import StoredAlert

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
# the two touch different alerts: those without a link, and those that have it
_FOLLOW = f"with relinked as ({_RELINK}) {_EXTEND}"
_UNTOLD = """
select w.watchlist_id, w.name as watchlist, w.collection, w.acknowledgement, w.time_zone, w.active_hours,
       e.episode_id, e.camera, e.subject_id, b.subject, b.sighting_id, b.score, e.first_at, e.last_at
from episode e
join watchlist_subject l on l.subject_id = e.subject_id
join watchlist w on w.watchlist_id = l.watchlist_id and w.enabled and w.alert_on = 'match'
join sighting b on b.sighting_id = e.best_sighting_id
left join camera c on c.name = e.camera
where e.episode_id = any($1::uuid[]) and (w.camera_groups = '{}' or w.camera_groups && c.groups)
and exists (select from sighting s where s.episode_id = e.episode_id and w.watchlist_id <> all (s.weak_for))  -- its own threshold
and not exists (
    select from alert a
    where a.watchlist_id = w.watchlist_id and a.camera = e.camera and a.subject_id = e.subject_id
        and a.first_at <= e.last_at and a.last_at >= e.first_at)
order by e.first_at, w.name
"""
_COLUMNS = {
    "watchlist_id": "uuid",
    "watchlist": "text",
    "collection": "text",
    "acknowledgement": "boolean",
    "episode_id": "uuid",
    "camera": "text",
    "subject_id": "uuid",
    "subject": "text",
    "sighting_id": "uuid",
    "score": "double precision",
    "first_at": "timestamptz",
    "last_at": "timestamptz",
}
_RAISE = f"""
with raised as (
    insert into alert (alert_id, {", ".join(_COLUMNS)})
    select * from unnest($1::uuid[], {", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_COLUMNS.values(), 2))})
    on conflict (alert_id) do nothing returning *)
select a.*, w.colour, w.sound from raised a left join watchlist w using (watchlist_id) order by a.first_at, a.watchlist
"""
_FORGET_COMMENTS = "update alert_history h set comment = null from alert a where a.alert_id = h.alert_id and a.subject_id = $1"
_FORGET = "update alert set subject_id = null, subject = null, sighting_id = null, score = null, episode_id = null where subject_id = $1"


async def follow_episodes(db: Database, episodes: Sequence[uuid.UUID]) -> None:
    """Keep alerts with their episodes after those were changed, merged or parted; part of the caller's transaction."""
    if episodes:
        await db.execute(_FOLLOW, list(episodes))


async def raise_alerts(db: Database, episodes: Sequence[uuid.UUID]) -> list[StoredAlert]:
    """Raise the alerts that these episodes deserve and do not have; part of the caller's transaction, under its cameras' locks.

    Returns:
        The new ones; the caller tells of them at the end of its transaction (:func:`tell_alerts`).
    """
    untold = await db.fetch(_UNTOLD, list(episodes)) if episodes else []
    active = [row for row in untold if is_active(intervals_of(row["active_hours"]), row["time_zone"], row["first_at"], row["last_at"])]
    if not active:
        return []
    ids = [uuid.uuid5(ALERT_NAMESPACE, f"{row['watchlist_id']}\n{row['episode_id']}") for row in active]
    rows = await db.fetch(_RAISE, ids, *([row[column] for row in active] for column in _COLUMNS))
    return [stored_alert(row) for row in rows]


async def tell_alerts(tx: Database, alerts: Sequence[StoredAlert]) -> None:
    """Tell live streams, webhooks and MQTT of alerts that are new or changed; last in a transaction."""
    told = [
        Told(key=alert.alert_id, revision=alert.version, camera=alert.camera, collection=alert.collection, watchlist=alert.watchlist)
        for alert in alerts
    ]
    await tell_each(tx, "alert", told)


async def forget_alerts(db: Database, subject_id: uuid.UUID) -> None:
    """Take an erased subject out of all alerts and watchlists, with what was said about it; that there was an alert stays."""
    await db.execute("delete from watchlist_subject where subject_id = $1", subject_id)
    await db.execute(_FORGET_COMMENTS, subject_id)
    await db.execute(_FORGET, subject_id)
