"""A sighting loses its name, or gets it back, and everything that follows from the name follows: episode, alerts, live streams."""

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from core.events import tell
from core.ports import Database
from core.schema import SightingOutcome
from core.vault import label_of
from sightings.alerts import SELECT_ALERTS, stored_alert
from sightings.alerts_raise import follow_episodes, raise_alerts, tell_alerts
from sightings.grouping import spans_of, update_episodes
from sightings.record import StoredAlert
from sightings.rows import SELECT_SPANS
from sightings.rulings import REJECTED_REASON

WRONG_PERSON = "wrong person"
"""The comment of an alert that was rejected because its sighting lost the name."""

# the next revision: clients keep the highest, and what the cameras still tell of the track is far above it
_RENAME = """
update sighting
set outcome = $2, reason = $3, subject_id = $4, subject = $5, reference_id = $6, score = coalesce($7, score), threshold = $8,
    weak_for = $9, revision = revision + 1
where sighting_id = $1
"""
# whose episode has gone with the name; the desk may have rejected one already
_LOST = """
select alert_id, state from alert
where subject_id = $1 and camera = $2 and kind = 'match' and episode_id is null and state not in ('rejected', 'closed')
  and first_at <= $4 and last_at >= $3
for update
"""
_SHOW_ANOTHER = """
update alert a set sighting_id = e.best_sighting_id, version = version + 1
from episode e
where a.sighting_id = $1 and a.subject_id = $2 and a.state <> 'rejected' and e.episode_id = a.episode_id
returning a.alert_id
"""
_MOVE = "update alert set state = $2, version = version + 1 where alert_id = $1 and state = $3"
_KEEP = "insert into alert_history (alert_id, actor, name, action, before, after, comment) values ($1, $2, $3, $4, $5, $6, $7)"
_OPTED_OUT = "select from opt_out where subject_id = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Who says something of a name."""

    actor: str
    """Kind and id."""
    name: str
    """For people."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """What a sighting becomes."""

    outcome: SightingOutcome = "stranger"
    reason: str = REJECTED_REASON
    subject_id: str | None = None
    subject: str | None = None
    reference_id: str | None = None
    score: float | None = None
    """None = as it was."""
    threshold: float | None = None
    """None = as it was."""
    weak_for: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Taken:
    """What followed from a change of name."""

    renamed: bool = False
    alerts: dict[str, str] = field(default_factory=dict)
    """Alerts that were rejected, with the states that they had."""
    sighting: dict[str, Any] | None = None
    """Row of the sighting that changed."""
    changed: list[uuid.UUID] = field(default_factory=list)
    """Alerts to tell of."""
    raised: list[StoredAlert] = field(default_factory=list)

    async def tell(self, tx: Database) -> None:
        """Tell live streams and the other processes; last in the transaction."""
        if self.sighting is None:
            return
        key = self.sighting["sighting_id"]
        (now,) = await tx.fetch("select revision, camera, collection from sighting where sighting_id = $1", key)
        rows = await tx.fetch(SELECT_ALERTS + "where a.alert_id = any($1::uuid[])", self.changed)
        await tell(tx, "sighting", [(str(key), now["revision"])], camera=now["camera"], collection=now["collection"])
        await tell_alerts(tx, [*(stored_alert(row) for row in rows), *self.raised])


async def take_name(tx: Database, row: dict[str, Any], said: Said, after: Renamed, gap: timedelta) -> Taken:
    """Rename a sighting, under its camera's lock.

    Args:
        tx: the transaction.
        row: of the sighting: id, camera, subject_id, threshold.
        said: who takes the name.
        after: what the sighting becomes.
        gap: the longest time between two sightings of one episode.
    """
    key, subject_id = row["sighting_id"], row["subject_id"]
    await tx.execute("delete from sighting_naming where sighting_id = $1 and subject_id = $2", key, subject_id)
    spans = await _rename(tx, row, after, gap)
    taken = Taken(renamed=True, sighting=row, raised=spans.raised)
    for alert in await tx.fetch(_LOST, subject_id, row["camera"], spans.before["first_at"], spans.before["last_at"]):
        await _move(tx, alert["alert_id"], (alert["state"], "rejected"), said)
        taken.alerts[str(alert["alert_id"])] = alert["state"]
        taken.changed.append(alert["alert_id"])
    taken.changed += [alert["alert_id"] for alert in await tx.fetch(_SHOW_ANOTHER, key, subject_id)]
    return taken


async def give_name(tx: Database, row: dict[str, Any], said: Said, gap: timedelta) -> Taken:
    """Give a sighting the name back that it lost, if it is still there and the subject may be told of; under its camera's lock.

    Args:
        tx: the transaction.
        row: of the feedback that is undone.
        said: who gives it back.
        gap: see take_name.
    """
    spans = await tx.fetch(SELECT_SPANS, [row["sighting_id"]])
    if not row["renamed"] or not spans or await tx.fetch(_OPTED_OUT, row["subject_id"]):
        return Taken()
    name = Renamed(
        outcome="subject",
        reason="",
        subject_id=str(row["subject_id"]),
        subject=row["subject"],
        reference_id=row["reference_id"] and str(row["reference_id"]),
        score=row["score"],
        threshold=row["threshold"],
    )
    given = Taken(renamed=True, sighting=row, raised=(await _rename(tx, row, name, gap)).raised)
    for alert_id, state in row["alerts"].items():
        if await _move(tx, uuid.UUID(alert_id), ("rejected", state), said):
            given.changed.append(uuid.UUID(alert_id))
    return given


@dataclass(frozen=True, slots=True)
class _Spans:
    before: dict[str, Any]
    raised: list[StoredAlert]


async def _rename(tx: Database, row: dict[str, Any], to: Renamed, gap: timedelta) -> _Spans:
    key = row["sighting_id"]
    before = await tx.fetch(SELECT_SPANS, [key])
    threshold = row["threshold"] if to.threshold is None else to.threshold
    named = (to.subject_id and uuid.UUID(to.subject_id), to.subject, to.reference_id and uuid.UUID(to.reference_id))
    await tx.execute(_RENAME, key, to.outcome, to.reason, *named, to.score, threshold, [uuid.UUID(one) for one in to.weak_for])
    episodes = await update_episodes(tx, before, await spans_of(tx, [key]), gap=gap)
    await follow_episodes(tx, episodes)
    return _Spans(before[0], await raise_alerts(tx, episodes))


async def _move(tx: Database, alert_id: uuid.UUID, states: tuple[str, str], said: Said) -> int:
    """Lead an alert from a state to another, and keep that in its history; 0 = it has another state by now."""
    before, after = states
    moved = await tx.execute(_MOVE, alert_id, after, before)
    if moved:
        comment = tx.vault.seal(WRONG_PERSON.encode(), label=label_of("alert comment", alert_id)) if after == "rejected" else None
        action = "reject" if after == "rejected" else "reopen"
        await tx.execute(_KEEP, alert_id, said.actor, said.name, action, before, after, comment)
    return moved
