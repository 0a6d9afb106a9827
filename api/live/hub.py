"""Live events: a bounded past to resume from, and a bounded queue for each client. A slow client is let go, never buffered for ever."""

import asyncio
import itertools
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import BaseModel

from api.cameras.models import CameraView
from api.errors import BusyError
from api.sightings.models import SightingView
from sightings.record import StoredSighting

PAST_EVENTS = 1000  # about 1 MB; a browser that was away for some minutes on a busy site misses nothing
CLIENT_EVENTS = 256  # behind by more than this, a client can't follow
MAX_CLIENTS = 100


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is sent."""

    number: int
    kind: str
    data: str
    """JSON on one line."""


class Subscription:
    """A client's place in the stream."""

    def __init__(self, session: str, backlog: list[Event]) -> None:
        self._session = session
        self._pending = deque(backlog)
        self._room = len(backlog) + CLIENT_EVENTS
        self._changed = asyncio.Event()
        self.ended = False
        """No further event comes: the server stops, or the client fell behind."""
        self.behind = False
        """The client fell too far behind."""

    async def next(self, timeout_s: float) -> Event | None:
        """Return the next event, or None when none came in time or the subscription has ended."""
        if not self._pending and not self.ended:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                return None
        return self._pending.popleft() if self._pending and not self.ended else None

    def id_of(self, event: Event) -> str:
        """Return the id from which a client resumes."""
        return f"{self._session}-{event.number}"

    def offer(self, event: Event) -> None:
        """Add an event; a full queue ends the subscription instead."""
        if len(self._pending) >= self._room:
            self.behind = True
            self.end()
        else:
            self._pending.append(event)
            self._changed.set()

    def end(self) -> None:
        """Send nothing more."""
        self._pending.clear()
        self.ended = True
        self._changed.set()


class EventHub:
    """Hands events to all clients. Thread rule: the event loop's thread only."""

    def __init__(self) -> None:
        self._session = uuid.uuid4().hex[:12]  # an id of another process resumes nothing here
        self._numbers = itertools.count(1)
        self._past: deque[Event] = deque(maxlen=PAST_EVENTS)
        self._clients: set[Subscription] = set()

    def publish(self, kind: str, body: BaseModel) -> None:
        """Send an event to all clients; never waits."""
        event = Event(next(self._numbers), kind, body.model_dump_json())
        self._past.append(event)
        for client in list(self._clients):
            client.offer(event)

    def publish_sighting(self, stored: StoredSighting) -> None:
        """Tell that a sighting is new or better known; what sightings.service calls after its commit."""
        self.publish("sighting", SightingView.of(stored))

    def publish_camera(self, camera: CameraView) -> None:
        """Tell that a camera's state has changed."""
        self.publish("camera", camera)

    @contextmanager
    def subscribe(self, last_id: str | None) -> Iterator[tuple[Subscription, bool]]:
        """Join the stream behind an event.

        Args:
            last_id: id of the last event that the client has; None starts now.

        Yields:
            The subscription, and whether events between ``last_id`` and now are lost, so that the client must read its lists again.

        Raises:
            BusyError: too many clients.
        """
        if len(self._clients) >= MAX_CLIENTS:
            raise BusyError(f"events: {MAX_CLIENTS} clients are connected, no more are taken; close some")
        backlog, gap = self._since(last_id)
        client = Subscription(self._session, backlog)
        self._clients.add(client)
        try:
            yield client, gap
        finally:
            self._clients.discard(client)

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        for client in self._clients:
            client.end()

    def _since(self, last_id: str | None) -> tuple[list[Event], bool]:
        if last_id is None:
            return [], False
        session, _, number = last_id.rpartition("-")
        if session != self._session or not number.isdecimal() or len(number) > 18:
            return [], True
        backlog = [event for event in self._past if event.number > int(number)]
        oldest = self._past[0].number if self._past else 1
        return backlog, int(number) < oldest - 1
