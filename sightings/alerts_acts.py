"""What people do to alerts: acknowledge, confirm, reject, assign, close, reopen, comment. Each act is kept in the alert's history.

Doing again what is done already changes nothing. Two people who act on what the other has changed meanwhile are told so (StaleError) when
they say which version they saw.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from core.errors import ConflictError, StaleError
from core.ports import Database
from core.vault import label_of
from sightings.alerts import IN_SCOPE, SELECT_ALERTS, no_alert, stored_alert
from sightings.alerts_raise import tell_alerts
from sightings.record import AlertState, StoredAlert, parse_id
from sightings.scope import EVERYTHING, Scope

Act = Literal["acknowledge", "confirm", "reject", "close", "reopen"]
AFTER: Final[Mapping[Act, AlertState]] = {
    "acknowledge": "acknowledged",
    "confirm": "confirmed",
    "reject": "rejected",
    "close": "closed",
    "reopen": "acknowledged",
}
FROM: Final[Mapping[Act, frozenset[AlertState]]] = {
    "acknowledge": frozenset(("new",)),
    "confirm": frozenset(("new", "acknowledged")),
    "reject": frozenset(("new", "acknowledged")),
    "close": frozenset(("new", "acknowledged", "confirmed", "rejected")),
    "reopen": frozenset(("confirmed", "rejected", "closed")),
}
"""From which states an act leads on. From the state it leads to, it does nothing."""

_LOCK = f"select a.alert_id from alert a where {IN_SCOPE} and a.alert_id = $4 for update of a"
_MOVE = """
update alert set state = $2, version = version + 1, acknowledged_by = coalesce(acknowledged_by, $3),
    acknowledged_at = case when $3::text is null then acknowledged_at else coalesce(acknowledged_at, now()) end
where alert_id = $1
"""
_ASSIGN = "update alert set assigned_to = $2, version = version + 1 where alert_id = $1"
_COMMENTED = "update alert set version = version + 1 where alert_id = $1"
_KEEP = """
insert into alert_history (alert_id, actor, name, action, before, after, assigned_to, comment) values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_LAST = "select actor, action from alert_history where alert_id = $1 order by history_id desc limit 1"

Decided = Callable[[Database, StoredAlert, "Actor"], Awaitable[None]]
"""Told in the transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who does something, as the history keeps it."""

    actor: str
    """Kind and id."""
    name: str
    """For people."""


async def _nothing(_tx: Database, _alert: StoredAlert, _who: Actor) -> None:
    return None


async def _unprepared(_tx: Database, _alert_id: uuid.UUID) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What must follow when an alert of a match is judged: the recognition learns of it."""

    prepare: Callable[[Database, uuid.UUID], Awaitable[None]] = _unprepared
    """Takes the locks that the others need, before the alert is locked."""
    wrong_person: Decided = _nothing
    """A match was rejected: what was taken for each other must not be again."""
    undone: Decided = _nothing
    """A rejected match was reopened."""


class AlertDesk:
    """Changes alerts for people. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, feedback: Feedback | None = None, *, scope: Scope = EVERYTHING) -> None:
        self._db = db
        self._feedback = feedback or Feedback()
        self._scope = scope

    async def act(self, alert_id: str, act: Act, who: Actor, *, version: int | None = None) -> StoredAlert:
        """Lead an alert on to another state.

        Args:
            alert_id: of the alert.
            act: what is done.
            who: does it.
            version: that was seen; None = whichever is there.

        Raises:
            NotFoundError: there is none, for who asks. StaleError: somebody changed it meanwhile.
            ConflictError: that can't be done to an alert in its state.
        """
        async with self._db.transaction() as tx:
            if act in ("reject", "reopen") and (known := parse_id(alert_id)):
                await self._feedback.prepare(tx, known)
            alert = await self._locked(tx, alert_id)
            key, after = uuid.UUID(alert.alert_id), AFTER[act]
            if await self._is_repeated(tx, alert, act, who):
                return alert
            _check_version(alert, version)
            if alert.state == after and act != "reopen":
                return alert
            if alert.state not in FROM[act]:
                allowed = ", ".join(sorted(FROM[act]))
                raise ConflictError(f"alert {alert.alert_id}: is {alert.state}; to {act} it, it must be one of: {allowed}")
            if act == "close" and alert.state == "new" and alert.acknowledgement:
                raise ConflictError(f"alert {alert.alert_id}: watchlist {alert.watchlist} wants it acknowledged before it is closed")
            await tx.execute(_MOVE, key, after, None if act == "close" else who.name)
            await tx.execute(_KEEP, key, who.actor, who.name, act, alert.state, after, None, None)
            if alert.kind == "match" and act == "reject":
                await self._feedback.wrong_person(tx, alert, who)
            if alert.kind == "match" and act == "reopen" and alert.state == "rejected":
                await self._feedback.undone(tx, alert, who)
            return await _told(tx, key)

    async def assign(self, alert_id: str, assignee: str | None, who: Actor, *, version: int | None = None) -> StoredAlert:
        """Say who takes care of an alert; None = nobody.

        Raises:
            NotFoundError, StaleError: as :meth:`act`. ConflictError: it is closed.
        """
        async with self._db.transaction() as tx:
            alert = await self._locked(tx, alert_id)
            if alert.assigned_to == assignee and await self._is_repeated(tx, alert, "assign", who):
                return alert
            _check_version(alert, version)
            if alert.assigned_to == assignee:
                return alert
            if alert.state == "closed":
                raise ConflictError(f"alert {alert.alert_id}: is closed; reopen it before it is assigned")
            key = uuid.UUID(alert.alert_id)
            await tx.execute(_ASSIGN, key, assignee)
            await tx.execute(_KEEP, key, who.actor, who.name, "assign", alert.state, alert.state, assignee, None)
            return await _told(tx, key)

    async def comment(self, alert_id: str, text: str, who: Actor) -> StoredAlert:
        """Add a comment; two people may do so at once. Raises NotFoundError."""
        async with self._db.transaction() as tx:
            alert = await self._locked(tx, alert_id)
            key = uuid.UUID(alert.alert_id)
            sealed = tx.vault.seal(text.encode(), label=label_of("alert comment", key))
            await tx.execute(_COMMENTED, key)
            await tx.execute(_KEEP, key, who.actor, who.name, "comment", alert.state, alert.state, None, sealed)
            return await _told(tx, key)

    async def _locked(self, tx: Database, alert_id: str) -> StoredAlert:
        key = parse_id(alert_id)
        if key is None or not await tx.fetch(_LOCK, *self._scope.lists(), key):
            raise no_alert(alert_id)
        return stored_alert((await tx.fetch(SELECT_ALERTS + "where a.alert_id = $1", key))[0])

    async def _is_repeated(self, tx: Database, alert: StoredAlert, action: str, who: Actor) -> bool:
        """Tell whether the last thing that happened is the same act of the same person: a request that was sent again."""
        last = await tx.fetch(_LAST, uuid.UUID(alert.alert_id))
        return bool(last) and (last[0]["actor"], last[0]["action"]) == (who.actor, action)


def _check_version(alert: StoredAlert, version: int | None) -> None:
    if version is not None and version != alert.version:
        raise StaleError(f"alert {alert.alert_id}: was changed meanwhile; read it again")


async def _told(tx: Database, key: uuid.UUID) -> StoredAlert:
    alert = stored_alert((await tx.fetch(SELECT_ALERTS + "where a.alert_id = $1", key))[0])
    await tell_alerts(tx, [alert])
    return alert
