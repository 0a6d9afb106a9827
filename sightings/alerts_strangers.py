"""Raises alerts of watchlists that alert on strangers: somebody was seen whom nobody knows.

One stranger rings once: tracks at one camera within the episode gap that look alike belong to one alert. A track rings when it has ended
or lasted for SETTLE: before that a better picture often makes it somebody known. When all that an alert covers turned out to be known
people, and nobody has taken it up yet, it is closed.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from core.ports import Database
from core.types import F32
from core.vault import Vault, label_of
from sightings.alerts import SELECT_ALERTS, stored_alert
from sightings.alerts_raise import ALERT_NAMESPACE
from sightings.hours import intervals_of, is_active
from sightings.record import Arrival, StoredAlert

SETTLE = timedelta(seconds=2)  # how soon a live track is embedded again (recognize.reembed_s): two looks agree
MOST_COMPARED = 64  # faces at one camera within the gap; in a denser crowd the latest count
SYSTEM = "system"

_STRANGERS = """
select w.watchlist_id, w.name as watchlist, w.collection, w.acknowledgement, w.time_zone, w.active_hours,
       s.sighting_id, s.camera, s.first_at, s.last_at, s.model, s.embedding, s.threshold,
       (select x.alert_id from alert_sighting x join alert a using (alert_id)
        where x.sighting_id = s.sighting_id and a.watchlist_id = w.watchlist_id limit 1) as alert_id
from sighting s
join watchlist w on w.alert_on = 'stranger' and w.enabled and w.collection = s.collection
left join camera c on c.name = s.camera
where s.sighting_id = any($1::uuid[]) and s.outcome = 'stranger' and s.reason <> 'erased'
    and (s.closed or s.last_at - s.first_at >= $2) and (w.camera_groups = '{}' or w.camera_groups && c.groups)
order by s.first_at, s.sighting_id, w.name
"""
_NEAR = """
select a.alert_id, s.sighting_id, s.model, s.embedding
from alert a left join alert_sighting x using (alert_id) left join sighting s on s.sighting_id = x.sighting_id
where a.watchlist_id = $1 and a.camera = $2 and a.kind = 'stranger' and a.first_at <= $4 and a.last_at >= $3
order by a.last_at desc, s.last_at desc limit $5
"""
_EXTEND = """
update alert set first_at = least(first_at, $2), last_at = greatest(last_at, $3)
where alert_id = $1 and (first_at > $2 or last_at < $3)
"""
_RAISE = """
insert into alert (alert_id, kind, watchlist_id, watchlist, collection, acknowledgement, camera, sighting_id, first_at, last_at)
values ($1, 'stranger', $2, $3, $4, $5, $6, $7, $8, $9) on conflict (alert_id) do nothing
"""
_LINK = "insert into alert_sighting (alert_id, sighting_id) values ($1, $2) on conflict do nothing"
_KNOWN_AFTER_ALL = f"""
with known as (
    update alert a set state = 'closed', version = version + 1
    where a.kind = 'stranger' and a.state = 'new'
        and a.alert_id in (select alert_id from alert_sighting where sighting_id = any($1::uuid[]))
        and not exists (
            select from alert_sighting x join sighting s using (sighting_id) where x.alert_id = a.alert_id and s.outcome <> 'subject')
    returning a.alert_id)
insert into alert_history (alert_id, actor, name, action, before, after)
select alert_id, '{SYSTEM}', '{SYSTEM}', 'known after all', 'new', 'closed' from known returning alert_id
"""


async def raise_stranger_alerts(
    db: Database, strangers: Sequence[uuid.UUID], named: Sequence[uuid.UUID], *, gap: timedelta
) -> list[StoredAlert]:
    """Raise the alerts that strangers deserve; part of the caller's transaction, under its cameras' locks.

    Args:
        db: the transaction; the sightings are stored already.
        strangers: sightings that are new or changed, of strangers.
        named: sightings that became somebody known.
        gap: of episodes: one stranger who comes back within it rings no second time.

    Returns:
        The new ones, and those that were closed because it was somebody known.
    """
    changed = [row["alert_id"] for row in (await db.fetch(_KNOWN_AFTER_ALL, list(named)) if named else ())]
    raised: list[uuid.UUID] = []
    for row in await db.fetch(_STRANGERS, list(strangers), SETTLE) if strangers else ():
        alert_id = row["alert_id"] or await _alert_of(db, row, gap)
        if alert_id is not None:
            await db.execute(_EXTEND, alert_id, row["first_at"], row["last_at"])
        elif is_active(intervals_of(row["active_hours"]), row["time_zone"], row["first_at"], row["last_at"]):
            raised.append(await _raise(db, row))
    rows = await db.fetch(SELECT_ALERTS + "where a.alert_id = any($1::uuid[])", changed + raised) if changed or raised else []
    return [stored_alert(row) for row in rows]


def strangers_among(changed: Sequence[Arrival], stored: Mapping[uuid.UUID, dict[str, Any]]) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
    """Return which of the sightings are strangers, and which were no subject before and are one now."""
    outcomes = {uuid.UUID(arrival.sighting.sighting_id): arrival.sighting.outcome for arrival in changed}
    named = [key for key, outcome in outcomes.items() if outcome == "subject" and key in stored and stored[key]["outcome"] != "subject"]
    return [key for key, outcome in outcomes.items() if outcome == "stranger"], named


async def _alert_of(db: Database, row: dict[str, Any], gap: timedelta) -> uuid.UUID | None:
    """Return the alert that was raised for this stranger already, and note that it covers this sighting too."""
    near = await db.fetch(_NEAR, row["watchlist_id"], row["camera"], row["first_at"] - gap, row["last_at"] + gap, MOST_COMPARED)
    here = _vector(db.vault, row)
    for other in near:
        if _alike(here, _vector(db.vault, other) if other["model"] == row["model"] else None, row["threshold"]):
            await db.execute(_LINK, other["alert_id"], row["sighting_id"])
            found: uuid.UUID = other["alert_id"]
            return found
    return None


async def _raise(db: Database, row: dict[str, Any]) -> uuid.UUID:
    alert_id = uuid.uuid5(ALERT_NAMESPACE, f"{row['watchlist_id']}\n{row['sighting_id']}")
    what = ("watchlist_id", "watchlist", "collection", "acknowledgement", "camera", "sighting_id", "first_at", "last_at")
    await db.execute(_RAISE, alert_id, *(row[column] for column in what))
    await db.execute(_LINK, alert_id, row["sighting_id"])
    return alert_id


def _alike(one: F32 | None, other: F32 | None, threshold: float) -> bool:
    """Tell whether two faces are one person by the measure that named nobody; what can't be compared is taken for the same."""
    return one is None or other is None or one.shape != other.shape or float(one @ other) >= threshold


def _vector(vault: Vault, row: dict[str, Any]) -> F32 | None:
    if row["embedding"] is None:
        return None
    return np.frombuffer(vault.open(row["embedding"], label=label_of("sighting embedding", row["sighting_id"])), "<f4")
