"""Which events a webhook is for, what it is signed with, and when a failed delivery is tried again. Pure."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Literal, get_args

from api.live.views import Groups, may_see
from api.principal import PERMISSIONS, Grant, Principal
from core.events import Event, EventKind

State = Literal["waiting", "delivered", "dead", "skipped"]
STATES: tuple[State, ...] = get_args(State)
FIRST_S: Final = 1.0
MOST_S: Final = 3600.0
GIVE_UP: Final = timedelta(hours=24)
"""A delivery that fails for so long is dead: it is kept, shown, and can be replayed."""
FAILURES: Final = 5  # in a row: then the endpoint is left alone for a while
PAUSE_FIRST_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What a webhook asks for; an empty set asks for all."""

    kinds: frozenset[EventKind]
    cameras: frozenset[str] = frozenset()
    camera_groups: frozenset[str] = frozenset()
    watchlists: frozenset[str] = frozenset()
    collections: frozenset[str] = frozenset()
    every_revision: bool = False

    def takes(self, event: Event, groups: Groups) -> bool:
        """Tell whether an event is asked for; one that is about no camera passes no filter of cameras, and so on."""
        return (
            event.kind in self.kinds
            and (event.news or self.every_revision)
            and (not self.cameras or event.camera in self.cameras)
            and (not self.camera_groups or not self.camera_groups.isdisjoint(groups.get(event.camera or "", ())))
            and (not self.watchlists or event.watchlist in self.watchlists)
            and (not self.collections or event.collection in self.collections)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook as it is stored."""

    webhook_id: str
    url: str
    """As it was given: it may hold a token."""
    description: str
    wants: Wants
    granted: Principal
    """What its maker may see: it never delivers more."""
    enabled: bool
    failures: int
    paused_until: datetime | None
    last_error: str | None
    delivered_at: datetime | None
    version: int
    created_at: datetime

    def gets(self, event: Event, groups: Groups) -> bool:
        """Tell whether an event is delivered to it."""
        return self.wants.takes(event, groups) and may_see(self.granted, event, groups)

    def gets_now(self, event: Event, groups: Groups) -> bool:
        """Tell whether a queued event may still be delivered: grants hold when it leaves, not only when it was queued."""
        return may_see(self.granted, event, groups)

    def shown_to(self, who: Principal) -> bool:
        """Tell whether somebody may see and change it: not who is granted less than its maker."""
        return all(
            mine is None or (theirs is not None and theirs <= mine)
            for mine, theirs in (
                (who.collections, self.granted.collections),
                (who.watchlists, self.granted.watchlists),
                (who.camera_groups, self.granted.camera_groups),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event on its way to a webhook."""

    delivery_id: str
    webhook_id: str
    event_id: int | None
    """None for a test."""
    at: datetime
    kind: str
    key: str
    revision: int
    camera: str | None
    collection: str | None
    watchlist: str | None
    state: State
    attempts: int
    queued_at: datetime
    due_at: datetime
    finished_at: datetime | None
    status: int | None
    error: str | None


def signature(secret: str, body: bytes, now_s: int) -> str:
    """Return the header ``X-Sightline-Signature``: the time, and the HMAC-SHA256 of the time, a dot and the body."""
    mac = hmac.new(secret.encode(), b"%d." % now_s + body, hashlib.sha256)
    return f"t={now_s},v1={mac.hexdigest()}"


def retry_s(attempts: int, random: Random) -> float:
    """Return how long to wait after so many failed attempts: doubling from a second to an hour, with jitter of a half."""
    return max(FIRST_S, min(MOST_S, FIRST_S * 2.0 ** min(attempts, 20)) * random.uniform(0.5, 1.0))


def pause_s(failures: int) -> float | None:
    """Return how long an endpoint is left alone after so many failures in a row; None = not at all."""
    return None if failures < FAILURES else min(MOST_S, PAUSE_FIRST_S * 2.0 ** min(failures - FAILURES, 20))


def granted_json(who: Principal) -> dict[str, Any]:
    """Return what somebody may see, as it is stored."""
    grants = {name: getattr(who, name) for name in ("collections", "watchlists", "camera_groups")}
    return {"permissions": sorted(who.permissions)} | {name: None if grant is None else sorted(grant) for name, grant in grants.items()}


def granted_of(webhook_id: str, stored: Mapping[str, Any]) -> Principal:
    """Return the principal in whose name a webhook delivers."""

    def grant(name: str) -> Grant:
        return None if stored[name] is None else frozenset(stored[name])

    return Principal(
        actor=f"webhook:{webhook_id}",
        name="webhook",
        role="service",
        permissions=frozenset(one for one in PERMISSIONS if one in stored["permissions"]),
        collections=grant("collections"),
        watchlists=grant("watchlists"),
        camera_groups=grant("camera_groups"),
    )
