"""Live events: one reader of the log of events a process, and a bounded queue for each client. Slow clients are let go, never buffered.

A client's cursor is the id of an event: it holds over restarts and on every replica. A client that resumes, or whose queue was too short
for a burst, reads the past from the database, a page at a time, until it has come up with the reader.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from api.errors import BusyError
from api.live.views import Groups, Shown, Viewer, Wanted, may_see
from api.principal import Principal
from core.errors import UnavailableError
from core.events import RETRY_S, Event, event_bounds, read_events, watch_events
from core.ports import Database

CLIENT_EVENTS = 256  # that wait in memory for a client; it reads what is more from the database
MAX_BEHIND = 5000  # events: a client that was up and fell behind by more can't follow
MAX_CLIENTS = 200
BEGIN_S = 10.0  # how long a first client waits for the reader of a process that has just started
POLL_S = 0.02

_log = structlog.get_logger(__name__)


class EventHub:
    """Hands events to all clients. Thread rule: one event loop."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._db: Database = viewer.db
        self._clients: set[Subscription] = set()
        self._position: int | None = None
        self._begun = asyncio.Event()

    async def run(self) -> None:
        """Read the log until cancelled, over losses of the database."""
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(watch_events(self._db, changed), name="events.watch")
            await self._feed(changed)

    async def begun(self) -> int:
        """Return the id up to which clients have been told, once there is one.

        Raises:
            UnavailableError: the reader can't begin.
        """
        try:
            async with asyncio.timeout(BEGIN_S):
                await self._begun.wait()
        except TimeoutError as err:
            raise UnavailableError("events: the log of events can't be read yet; is the database up?") from err
        assert self._position is not None
        return self._position

    async def caught_up(self) -> None:
        """Return when clients have been handed all that is told by now."""
        _, newest = await event_bounds(self._db)
        while self._position is None or self._position < newest:  # noqa: ASYNC110 - a stop waits here once in a process's life
            await asyncio.sleep(POLL_S)

    @contextmanager
    def subscribe(self, wanted: Wanted, who: Principal, *, after: int | None = None) -> Iterator["Subscription"]:
        """Join the stream.

        Args:
            wanted: which events.
            who: gets only what is granted.
            after: id of the last event that the client has; None starts now.

        Raises:
            BusyError: too many clients.
        """
        if len(self._clients) >= MAX_CLIENTS:
            raise BusyError(f"events: {MAX_CLIENTS} clients are connected, no more are taken; close some")
        client = Subscription(self, wanted, who, after=after)
        self._clients.add(client)
        try:
            yield client
        finally:
            self._clients.discard(client)

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        for client in self._clients:
            client.end()

    async def _feed(self, changed: asyncio.Event) -> None:
        while True:
            try:
                if self._position is None:
                    self._position = (await event_bounds(self._db))[1]
                    self._begun.set()
                await changed.wait()
                changed.clear()
                while events := await read_events(self._db, self._position):
                    await self._hand_out(events)
            except UnavailableError as err:
                _log.warning("live events wait", reason=str(err), retry_s=RETRY_S)
                await asyncio.sleep(RETRY_S)
                changed.set()

    async def _hand_out(self, events: list[Event]) -> None:
        live = {client for client in self._clients if client.live}
        asked = [event for event in events if any(client.wanted.takes(event) for client in live)]
        shown = await self.viewer.show(asked) if asked else []
        restricted = any(client.who.camera_groups is not None for client in live)
        groups = await self.viewer.groups(asked) if restricted else {}
        for client in self._clients:
            if client in live:
                client.offer(shown, groups)
            else:
                client.read_past()  # who came up meanwhile was not asked what it wants
        self._position = events[-1].event_id

    @property
    def clients(self) -> "frozenset[Subscription]":
        """Those that are connected."""
        return frozenset(self._clients)

    @property
    def position(self) -> int:
        """The id up to which live clients have been told."""
        return self._position or 0


class Subscription:
    """A client's place in the stream."""

    def __init__(self, hub: EventHub, wanted: Wanted, who: Principal, *, after: int | None) -> None:
        self._hub, self.wanted, self.who = hub, wanted, who
        self._given = after
        self._after = hub.position if after is None else after
        self._was_live = after is None
        self._pending: deque[Shown] = deque()
        self._changed = asyncio.Event()
        self.live = after is None
        """Whether the client has come up with the reader."""
        self.ended = False
        """No further event comes: the server stops, or the client fell behind."""
        self.behind = False
        """The client fell too far behind."""

    async def missed(self) -> bool:
        """Tell whether events behind the client's cursor are not kept any more, or it is none of this log; it then goes on from now.

        Raises:
            UnavailableError: the database does not answer.
        """
        if self._given is None:
            return False
        floor, newest = await event_bounds(self._hub._db)
        if floor <= self._given <= newest:
            return False
        self._after, self.live = self._hub.position, True
        return True

    async def next(self, timeout_s: float) -> list[Shown]:
        """Return the next events, or none when none came in time or the subscription has ended. Raises UnavailableError."""
        while not self.live and not self.ended:
            if page := await self._past():
                return page
        if not self._pending and not self.ended:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                return []
            if not self.live:
                return await self.next(timeout_s)
        got = [] if self.ended else list(self._pending)
        self._pending.clear()
        if got:
            self._after = got[-1].event.event_id
        return got

    def offer(self, shown: list[Shown], groups: Groups) -> None:
        """Add what the client asked for and may see; when the queue is full, the client reads all of it from the past instead."""
        for one in shown:
            if one.event.event_id <= self._after or not self.wanted.shows(one) or not may_see(self.who, one.event, groups):
                continue
            if len(self._pending) >= CLIENT_EVENTS:
                self.read_past()
                return
            self._changed.set()
            self._pending.append(one)

    def read_past(self) -> None:
        """Go on from the database, behind the last event that was handed out, until it has come up with the reader."""
        self._pending.clear()
        self.live = False
        self._changed.set()

    def let_go(self) -> None:
        """End because the client can't follow; it may come again, and resume."""
        self.behind = True
        self.end()

    def end(self) -> None:
        """Send nothing more."""
        self._pending.clear()
        self.ended = True
        self._changed.set()

    async def _past(self) -> list[Shown]:
        """Read a page of the past; joins the live clients when there is no more."""
        hub = self._hub
        if self._after >= hub.position:
            self.live = self._was_live = True
            return []
        if self._was_live and hub.position - self._after > MAX_BEHIND:
            self.let_go()
            return []
        events = await read_events(hub._db, self._after)
        if not events:  # ids that were drawn and never used
            self._after = hub.position
            return []
        shown = await hub.viewer.show([event for event in events if self.wanted.takes(event)])
        groups = await hub.viewer.groups(one.event for one in shown) if self.who.camera_groups is not None else {}
        self._after = events[-1].event_id
        return [one for one in shown if self.wanted.shows(one) and may_see(self.who, one.event, groups)]
