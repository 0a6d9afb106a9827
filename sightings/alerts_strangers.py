"""Raises alerts of watchlists that alert on strangers: somebody was seen whom nobody knows.

One stranger rings once: tracks at one camera within the episode gap that look alike belong to one alert. A track rings when it has ended
or lasted for SETTLE: before that a better picture often makes it somebody known. When all that an alert covers turned out to be known
people, and nobody has taken it up yet, it is closed.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from core.ports import Database
from core.types import F32
from core.vault import Vault, label_of
from sightings.alerts import SELECT_ALERTS, stored_alert
from sightings.alerts_raise import ALERT_NAMESPACE
from sightings.hours import intervals_of, is_active
from sightings.record import StoredAlert

SETTLE = timedelta(seconds=2)  # how soon a live track is embedded again (recognize.reembed_s): two looks agree
MOST_COMPARED = 64  # faces at one camera within the gap; in a denser crowd the latest count
SYSTEM = "system"
Place = tuple[uuid.UUID, str]
"""Watchlist and camera."""

_STRANGERS = """
select w.watchlist_id, w.name as watchlist, w.collection, w.acknowledgement, w.time_zone, w.active_hours,
       s.sighting_id, s.camera, s.first_at, s.last_at, s.model, s.embedding, s.threshold, k.alert_id
from sighting s
join watchlist w on w.alert_on = 'stranger' and w.enabled and w.collection = s.collection
left join camera c on c.name = s.camera
left join (
    select distinct on (x.sighting_id, a.watchlist_id) x.sighting_id, a.watchlist_id, x.alert_id
    from alert_sighting x join alert a using (alert_id) where x.sighting_id = any($1::uuid[])
) k on k.sighting_id = s.sighting_id and k.watchlist_id = w.watchlist_id
where s.sighting_id = any($1::uuid[]) and s.outcome = 'stranger' and s.reason <> 'erased'
    and (s.closed or s.last_at - s.first_at >= $2) and (w.camera_groups = '{}' or w.camera_groups && c.groups)
order by s.first_at, s.sighting_id, w.name
"""
# the latest faces that alerts cover at each of some places and times; strangers' alerts have no subject, which the index wants to hear
_NEAR = """
select n.* from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::int[])
    wanted (watchlist_id, camera, since, until, most)
cross join lateral (
    select a.alert_id, a.watchlist_id, a.camera, a.first_at, a.last_at, s.sighting_id, s.last_at as seen_at, s.model, s.embedding
    from alert a left join alert_sighting x using (alert_id) left join sighting s on s.sighting_id = x.sighting_id
    where a.watchlist_id = wanted.watchlist_id and a.camera = wanted.camera and a.subject_id is null and a.kind = 'stranger'
        and a.first_at <= wanted.until and a.last_at >= wanted.since
    order by a.last_at desc, s.last_at desc limit wanted.most) n
"""
_EXTEND = """
update alert a set first_at = least(a.first_at, t.first_at), last_at = greatest(a.last_at, t.last_at)
from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) t (alert_id, first_at, last_at)
where a.alert_id = t.alert_id and (a.first_at > t.first_at or a.last_at < t.last_at)
"""
_RAISE = """
insert into alert (alert_id, kind, watchlist_id, watchlist, collection, acknowledgement, camera, sighting_id, first_at, last_at)
values ($1, 'stranger', $2, $3, $4, $5, $6, $7, $8, $9) on conflict (alert_id) do nothing
"""
_RAISED = ("watchlist_id", "watchlist", "collection", "acknowledgement", "camera", "sighting_id", "first_at", "last_at")
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
    rows = await db.fetch(_STRANGERS, list(strangers), SETTLE) if strangers else []
    rings = Rings(gap, await _covered(db, rows, gap))
    for row in rows:
        rings.hear(row, _face(db.vault, row, row["last_at"]))
    await rings.write(db)
    told = changed + list(rings.raised)
    return [stored_alert(row) for row in await db.fetch(SELECT_ALERTS + "where a.alert_id = any($1::uuid[])", told)] if told else []


def strangers_among(
    after: Mapping[uuid.UUID, dict[str, Any]], before: Mapping[uuid.UUID, dict[str, Any]]
) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
    """Return which of the sightings are strangers, and which were no subject before and are one now; by their spans."""
    named = [key for key, now in after.items() if now["outcome"] == "subject" and key in before and before[key]["outcome"] != "subject"]
    return [key for key, now in after.items() if now["outcome"] == "stranger"], named


@dataclass(frozen=True, slots=True)
class _Face:
    seen_at: datetime
    model: str
    vector: F32 | None

    def alike(self, other: "_Face", threshold: float) -> bool:
        """Tell whether two faces are one person by the measure that named nobody; what can't be compared is taken for the same."""
        one, two = self.vector, other.vector
        return one is None or two is None or self.model != other.model or one.shape != two.shape or float(one @ two) >= threshold


@dataclass(slots=True)
class Covered:
    """What an alert covers, as a batch of sightings leaves it."""

    first_at: datetime
    last_at: datetime
    faces: dict[uuid.UUID, _Face]
    """By sighting. Without any it covers whoever comes: those that it was raised for are gone."""


class Rings:
    """Decides which alerts a batch of strangers raises or extends, one after another, and writes that at once."""

    def __init__(self, gap: timedelta, covered: dict[Place, dict[uuid.UUID, Covered]]) -> None:
        """Take the alerts that may cover them, by place."""
        self._gap = gap
        self._covered = covered
        self._extended: dict[uuid.UUID, Covered] = {}
        self._links: list[tuple[uuid.UUID, uuid.UUID]] = []
        self.raised: dict[uuid.UUID, dict[str, Any]] = {}
        """Rows of _STRANGERS by the alert that they raise."""

    def hear(self, row: dict[str, Any], face: _Face) -> None:
        """Let a stranger (a row of _STRANGERS) ring, or be covered by an alert."""
        known: uuid.UUID | None = row["alert_id"]
        alert_id = known or self._alert_of(row, face)
        if alert_id is None:
            if not is_active(intervals_of(row["active_hours"]), row["time_zone"], row["first_at"], row["last_at"]):
                return
            alert_id = uuid.uuid5(ALERT_NAMESPACE, f"{row['watchlist_id']}\n{row['sighting_id']}")
            self.raised[alert_id] = row
        covered = self._covered.setdefault(_place(row), {}).setdefault(alert_id, Covered(row["first_at"], row["last_at"], {}))
        covered.first_at, covered.last_at = min(covered.first_at, row["first_at"]), max(covered.last_at, row["last_at"])
        covered.faces[row["sighting_id"]] = face
        self._extended[alert_id] = covered
        if known is None:
            self._links.append((alert_id, row["sighting_id"]))

    async def write(self, db: Database) -> None:
        """Store what was decided."""
        if self.raised:
            await db.executemany(_RAISE, [(key, *(row[column] for column in _RAISED)) for key, row in self.raised.items()])
        if self._links:
            await db.executemany(_LINK, self._links)
        if self._extended:
            stretches = self._extended.values()
            await db.execute(_EXTEND, list(self._extended), [one.first_at for one in stretches], [one.last_at for one in stretches])

    def _alert_of(self, row: dict[str, Any], face: _Face) -> uuid.UUID | None:
        """Return the alert that was raised for this stranger already: of the latest faces nearby, the first that is alike."""
        since, until = row["first_at"] - self._gap, row["last_at"] + self._gap
        near = [(key, one) for key, one in self._covered[_place(row)].items() if one.first_at <= until and one.last_at >= since]
        faces = [(one.last_at, other.seen_at, key, other) for key, one in near for other in one.faces.values() or [_NOBODY]]
        for _, _, key, other in sorted(faces, key=lambda found: found[:2], reverse=True)[:MOST_COMPARED]:
            if face.alike(other, row["threshold"]):
                return key
        return None


_NOBODY = _Face(datetime.max.replace(tzinfo=UTC), "", None)


async def _covered(db: Database, rows: Sequence[dict[str, Any]], gap: timedelta) -> dict[Place, dict[uuid.UUID, Covered]]:
    """Return the alerts near strangers, at the places where somebody came whom none covers yet."""
    covered: dict[Place, dict[uuid.UUID, Covered]] = {_place(row): {} for row in rows if row["alert_id"] is None}
    wanted = []
    for place in covered:
        here = [row for row in rows if _place(row) == place]
        since, until = min(row["first_at"] for row in here) - gap, max(row["last_at"] for row in here) + gap
        wanted.append((*place, since, until, MOST_COMPARED * len(here)))
    for row in await db.fetch(_NEAR, *zip(*wanted, strict=True)) if wanted else ():
        alert = covered[_place(row)].setdefault(row["alert_id"], Covered(row["first_at"], row["last_at"], {}))
        if row["sighting_id"] is not None:
            alert.faces[row["sighting_id"]] = _face(db.vault, row, row["seen_at"])
    return covered


def _place(row: dict[str, Any]) -> Place:
    return row["watchlist_id"], row["camera"]


def _face(vault: Vault, row: dict[str, Any], seen_at: datetime) -> _Face:
    sealed = row["embedding"]
    vector = None if sealed is None else np.frombuffer(vault.open(sealed, label=label_of("sighting embedding", row["sighting_id"])), "<f4")
    return _Face(seen_at, row["model"], vector)
