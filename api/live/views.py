"""What an event looks like to those who may see it: its row, read when it is delivered, in the form in which the API shows it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import msgspec
from pydantic import BaseModel

from api.alerts.models import AlertView
from api.cameras.models import CameraView
from api.live.models import ChangeView
from api.principal import Permission, Principal
from api.sightings.models import SightingView
from core.events import Event, EventKind
from core.ports import Database
from sightings.alerts import AlertStore
from sightings.store import SightingStore

NEEDS: Mapping[EventKind, Permission] = {
    "sighting": "sightings.read",
    "alert": "alerts.read",
    "camera": "cameras.read",
    "job": "jobs.read",
    "gallery": "subjects.read",
    "person": "history",
}
"""What who hears of it must be allowed to read."""
Groups = Mapping[str, Sequence[str]]
"""Camera -> its groups."""
Look = Callable[[Sequence[str]], Awaitable[Mapping[str, BaseModel]]]
"""Returns id -> what the API shows, for those that there are."""


@dataclass(frozen=True)
class Shown:
    """An event with what it is about."""

    event: Event
    view: BaseModel

    @cached_property
    def data(self) -> str:
        """Return the JSON of what it is about, on one line: made once for all who get it."""
        return self.view.model_dump_json()

    @cached_property
    def envelope(self) -> str:
        """Return the JSON of the whole event, on one line."""
        head = {"event_id": self.event.event_id, "kind": self.event.kind, "at": self.event.at, "news": self.event.news}
        return msgspec.json.encode(head | {"data": msgspec.Raw(self.data.encode())}).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events somebody asks for; None asks for all."""

    kinds: frozenset[EventKind] | None = None
    camera: str | None = None
    watchlist: str | None = None
    subject: str | None = None
    """Id or present name."""
    news: bool = False
    """Leave out what is no news."""

    def takes(self, event: Event) -> bool:
        """Tell whether an event can be meant, before its row is read."""
        return (
            (self.kinds is None or event.kind in self.kinds)
            and (self.camera is None or event.camera == self.camera)
            and (self.watchlist is None or event.watchlist == self.watchlist)
            and (event.news or not self.news)
        )

    def shows(self, shown: Shown) -> bool:
        """Tell whether an event is meant."""
        view = shown.view
        return self.takes(shown.event) and (
            self.subject is None or self.subject in (getattr(view, "subject_id", None), getattr(view, "subject", None))
        )


def may_see(who: Principal, event: Event, groups: Groups) -> bool:
    """Tell whether an event is about what somebody is granted."""
    return (
        who.may(NEEDS[event.kind])
        and (event.camera is None or who.sees_camera(groups.get(event.camera, ())))
        and (event.collection is None or who.sees_collection(event.collection))
        and (event.watchlist is None or who.sees_watchlist(event.watchlist))
    )


class ListsCameras(Protocol):
    """Says how the cameras are."""

    async def __call__(self) -> Sequence[CameraView]:
        """Return all of them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Reads what events are about, a batch at a time. Thread rule: one event loop."""

    db: Database
    sightings: SightingStore
    cameras: ListsCameras
    others: Mapping[EventKind, Look] = field(default_factory=dict)
    """Kinds that other areas show."""

    async def show(self, events: Sequence[Event]) -> list[Shown]:
        """Return events with their rows, in order; of several about one row the last; none whose row is gone. Raises UnavailableError."""
        last = {(event.kind, event.key): event for event in events}
        views: dict[tuple[EventKind, str], BaseModel] = {}
        for kind in {kind for kind, _ in last}:
            of_kind = [event for event in last.values() if event.kind == kind]
            found = await self._look(kind, of_kind)
            views |= {(kind, key): view for key, view in found.items()}
        kept = sorted((event for place, event in last.items() if place in views), key=lambda event: event.event_id)
        return [Shown(event, views[event.kind, event.key]) for event in kept]

    async def groups(self, events: Iterable[Event]) -> Groups:
        """Return the groups of the cameras of some events. Raises UnavailableError."""
        names = sorted({event.camera for event in events if event.camera is not None})
        rows = await self.db.fetch("select name, groups from camera where name = any($1::text[])", names) if names else []
        return {row["name"]: row["groups"] for row in rows}

    async def _look(self, kind: EventKind, events: Sequence[Event]) -> Mapping[str, BaseModel]:
        keys = [event.key for event in events]
        if kind in self.others:
            return await self.others[kind](keys)
        if kind == "sighting":
            return {one.sighting.sighting_id: SightingView.of(one) for one in await self.sightings.listed(keys)}
        if kind == "alert":
            return {one.alert_id: AlertView.of(one) for one in await AlertStore(self.db).listed(keys)}
        if kind == "camera":
            there = {view.name: view for view in await self.cameras()}
            return {event.key: there.get(event.key) or _change(event) for event in events}
        return {event.key: _change(event) for event in events}


def _change(event: Event) -> ChangeView:
    same: dict[str, Any] = {name: getattr(event, name) for name in ("revision", "camera", "collection", "watchlist")}
    return ChangeView(id=event.key, **same)
