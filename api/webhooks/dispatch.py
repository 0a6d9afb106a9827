"""From the log of events to the endpoints: queued durably, then delivered at least once, each endpoint at its own pace."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, cast

import msgspec
import structlog

from api.live.hub import EventHub
from api.live.views import Shown, Viewer
from api.webhooks.post import Poster, open_poster
from api.webhooks.store import DeliveryStore, Outcome, WebhookStore, half_open
from api.webhooks.wants import GIVE_UP, Delivery, Webhook, pause_s
from core.errors import UnavailableError
from core.events import PAGE, Event, EventKind, event_bounds, read_events, watch_events
from core.metrics import Metrics
from core.ports import Database
from core.settings import Settings

READER: Final = "webhooks"
PER_ENDPOINT: Final = 4  # attempts at a time, in each process
LEASE: Final = timedelta(seconds=30)  # of an attempt, which takes 10 s at most: if its process dies, another tries after this
POLL_S: Final = 1.0
TIDY_S: Final = 60.0

_BEGIN = "insert into event_reader (name, event_id) values ($1, $2) on conflict do nothing"
_PLACE = "select event_id from event_reader where name = $1 for update"
_MOVE = "update event_reader set event_id = $2 where name = $1"
_log = structlog.get_logger(__name__)


def dispatcher_of(settings: Settings, hub: EventHub, metrics: Metrics) -> "Dispatcher":
    """Return what delivers to webhooks in a process with these settings."""
    return Dispatcher(
        viewer=hub.viewer,
        metrics=metrics,
        allow=settings.outbound.webhook_allow,
        keep=timedelta(days=settings.events.keep_days),
    )


@dataclass(kw_only=True)
class Dispatcher:
    """Delivers events to webhooks. Any number of processes may run it. Thread rule: one event loop."""

    viewer: Viewer
    metrics: Metrics
    allow: Sequence[str]
    """What webhooks may reach beside the public internet."""
    keep: timedelta
    """How long deliveries that are finished are kept."""
    lease: timedelta = LEASE
    give_up: timedelta = GIVE_UP
    _due: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _busy: Counter[str] = field(init=False, default_factory=Counter)

    async def run(self) -> None:
        """Deliver until cancelled; what is in flight then is delivered again by whoever runs next."""
        changed = asyncio.Event()
        async with open_poster(self.allow) as poster, asyncio.TaskGroup() as group:
            group.create_task(watch_events(self._db, changed), name="webhooks.watch")
            group.create_task(self._queue_all(changed), name="webhooks.queue")
            group.create_task(self._tidy(), name="webhooks.tidy")
            await self._deliver_all(poster, group)

    async def queue_new(self) -> int:
        """Queue what was told since the last time, exactly once over all processes; return how many events were looked at.

        Raises:
            UnavailableError: nothing was queued of what was not committed.
        """
        async with self._db.transaction() as tx:
            rows = await tx.fetch(_PLACE, READER)
            if not rows:
                _, newest = await event_bounds(tx)
                await tx.execute(_BEGIN, READER, newest)
                return 0
            events = await read_events(tx, rows[0]["event_id"])
            webhooks = await WebhookStore(tx).enabled() if events else []
            groups = await self.viewer.groups(events) if webhooks else {}
            for webhook in webhooks:
                await DeliveryStore(tx).queue(webhook, events, groups)
            if events:
                await tx.execute(_MOVE, READER, events[-1].event_id)
        return len(events)

    async def attempt(self, poster: Poster, webhook: Webhook, delivery: Delivery) -> Outcome:
        """Try a delivery once, and note what became of it. Raises UnavailableError."""
        body, secret = await self._body(webhook, delivery), await WebhookStore(self._db).secret(webhook.webhook_id)
        if body is None or secret is None:
            outcome = Outcome(state="skipped", error="what it was about is gone, or its maker may not see it any more")
        else:
            with self.metrics.webhook_seconds.time():
                outcome = await poster.post(webhook, secret, delivery, body)
        async with self._db.transaction() as tx:  # the endpoint's row before the delivery's: the order in which a removal locks them
            store = DeliveryStore(tx)
            if outcome.state == "delivered":
                await store.note_well(webhook.webhook_id)
            elif outcome.state == "waiting":
                await self._note_ill(store, webhook, outcome)
            state = await store.finish(delivery, outcome, give_up=self.give_up)
        self.metrics.webhook_deliveries.labels("failed" if state == "waiting" else state).inc()
        return outcome

    @property
    def _db(self) -> Database:
        return self.viewer.db

    async def _queue_all(self, changed: asyncio.Event) -> None:
        while True:
            try:
                while looked := await self.queue_new():
                    self._due.set()
                    if looked < PAGE:
                        break
            except UnavailableError as err:
                _log.warning("webhooks wait", reason=str(err))
            try:
                async with asyncio.timeout(POLL_S * 5):
                    await changed.wait()
            except TimeoutError:
                continue
            changed.clear()

    async def _deliver_all(self, poster: Poster, group: asyncio.TaskGroup) -> None:
        webhooks, deliveries = WebhookStore(self._db), DeliveryStore(self._db)
        while True:
            try:
                for webhook in await webhooks.ready():
                    free = (1 if half_open(webhook) else PER_ENDPOINT) - self._busy[webhook.webhook_id]
                    for delivery in await deliveries.claim(webhook.webhook_id, most=free, lease=self.lease) if free > 0 else ():
                        self._busy[webhook.webhook_id] += 1
                        group.create_task(self._deliver(poster, webhook, delivery), name="webhooks.deliver")
            except UnavailableError as err:
                _log.warning("webhooks wait", reason=str(err))
            try:
                async with asyncio.timeout(POLL_S):
                    await self._due.wait()
            except TimeoutError:
                continue
            self._due.clear()

    async def _deliver(self, poster: Poster, webhook: Webhook, delivery: Delivery) -> None:
        try:
            await self.attempt(poster, webhook, delivery)
        except UnavailableError as err:
            _log.warning("a delivery is tried again: what became of it could not be noted", webhook=webhook.webhook_id, reason=str(err))
        finally:
            self._busy[webhook.webhook_id] -= 1
            if not self._busy[webhook.webhook_id]:
                del self._busy[webhook.webhook_id]
            self._due.set()

    async def _body(self, webhook: Webhook, delivery: Delivery) -> bytes | None:
        """Return what is sent: the row as it is now, None when it is gone or not granted any more."""
        if delivery.event_id is None:
            return msgspec.json.encode({"event_id": None, "kind": "test", "at": delivery.at, "news": True, "data": {}})
        event = Event(
            event_id=delivery.event_id,
            kind=cast("EventKind", delivery.kind),
            **{name: getattr(delivery, name) for name in ("at", "key", "revision", "camera", "collection", "watchlist")},
        )
        shown: list[Shown] = await self.viewer.show([event])
        groups: Any = await self.viewer.groups([event]) if webhook.granted.camera_groups is not None else {}
        return shown[0].envelope.encode() if shown and webhook.gets_now(event, groups) else None

    async def _note_ill(self, store: DeliveryStore, webhook: Webhook, outcome: Outcome) -> None:
        failures = await store.note_ill(webhook.webhook_id, outcome.error or "")
        pause = pause_s(failures)
        if pause is not None:
            await store.pause(webhook.webhook_id, pause)
            _log.warning("a webhook is paused", webhook=webhook.webhook_id, failures=failures, pause_s=pause, reason=outcome.error)

    async def _tidy(self) -> None:
        while True:
            try:
                dead = await DeliveryStore(self._db).tidy(give_up=self.give_up, keep=self.keep)
                self.metrics.webhook_deliveries.labels("dead").inc(dead)
                self.metrics.webhook_waiting.set(await DeliveryStore(self._db).waiting())
                rows = await self._db.fetch("select event_id from event_reader where name = $1", READER)
                if rows:
                    self.metrics.events_lag.labels(READER).set((await event_bounds(self._db))[1] - rows[0]["event_id"])
            except UnavailableError as err:
                _log.warning("webhooks are not tidied", reason=str(err))
            await asyncio.sleep(TIDY_S)
