"""Publishes what is seen over MQTT: one process of a fleet at a time, from the log of events, with its place in the database."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from core.adapters.mqtt import Message, MqttLink, open_mqtt
from core.errors import UnavailableError
from core.events import Event, EventReader, event_bounds, read_events, watch_events
from core.metrics import Metrics
from core.ports import Database
from core.runner import first_error
from core.settings import MqttSettings
from sightings.alerts import AlertStore
from sightings.notify.frigate import FrigateLabels
from sightings.notify.retained import Retained
from sightings.notify.topics import (
    OFFLINE,
    ONLINE,
    alert_message,
    camera_discovery,
    double_take_messages,
    occupancy_messages,
    person_topic,
    platform_discovery,
    sighting_message,
    status_topic,
)
from sightings.record import StoredSighting
from sightings.store import SightingStore

READER: Final = "mqtt"
IDLE_S: Final = 5.0  # between renewals of the lease, and looks for cameras that came and went
RETRY_FIRST_S: Final = 1.0
RETRY_MOST_S: Final = 30.0
REMEMBERED: Final = 10_000  # faces of which Double Take's clients were told

CameraNames = Callable[[], Awaitable[Sequence[str]]]
_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class MqttNotifier:
    """Publishes events. At least once with qos 1 or 2, in the order of the log. Thread rule: one event loop."""

    db: Database
    sightings: SightingStore
    settings: MqttSettings
    cameras: CameraNames
    """The cameras there are."""
    metrics: Metrics
    frigate: FrigateLabels | None = None
    _announced: set[str] = field(init=False, default_factory=set)
    _judged: OrderedDict[str, tuple[str, str | None]] = field(init=False, default_factory=OrderedDict)

    async def run(self) -> None:
        """Publish until cancelled; over losses of broker and database, and behind another process that does it already."""
        reader, wait_s = EventReader(self.db, READER), RETRY_FIRST_S
        while True:
            began_s = time.monotonic()
            try:
                if await reader.take() is not None:
                    await self._session(reader)
                wait_s = RETRY_FIRST_S
            except UnavailableError as err:
                wait_s = RETRY_FIRST_S if time.monotonic() - began_s > RETRY_MOST_S else wait_s
                _log.warning("mqtt: nothing is published, trying again", reason=str(err), retry_s=wait_s)
            except asyncio.CancelledError:
                await self._leave(reader)
                raise
            finally:
                self.metrics.mqtt_connected.set(0)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_MOST_S)

    async def _session(self, reader: EventReader) -> None:
        """Publish over one connection; return when another process has become the publisher."""
        will = Message(topic=status_topic(self.settings.prefix), payload=OFFLINE, retain=True)
        changed = asyncio.Event()
        async with open_mqtt(self.settings, will=will) as link:
            try:
                async with asyncio.TaskGroup() as group:
                    beside = [
                        group.create_task(watch_events(self.db, changed), name="mqtt.watch"),
                        group.create_task(self._listen(link), name="mqtt.listen"),
                    ]
                    if self.frigate is not None:
                        beside.append(group.create_task(self.frigate.name_seen(), name="mqtt.frigate"))
                    await self._publish_all(link, reader, changed)
                    for task in beside:
                        task.cancel()
            except BaseExceptionGroup as failed:
                raise first_error(failed) from failed
            finally:
                with contextlib.suppress(UnavailableError):
                    await link.publish([will])

    async def _listen(self, link: MqttLink) -> None:
        """Follow Frigate, if there is one; end the session when the connection is lost, though nothing is to be published."""
        if self.frigate is not None:
            await self.frigate.listen(link)
        else:
            async for _ in link.messages():
                continue
        raise UnavailableError("mqtt: the broker has closed the connection")

    async def _publish_all(self, link: MqttLink, reader: EventReader, changed: asyncio.Event) -> None:
        await self._greet(link)
        while (after := await reader.take()) is not None:
            self.metrics.mqtt_connected.set(1)
            changed.clear()
            while events := await read_events(self.db, after):
                await self._publish(link, events)
                after = events[-1].event_id
                if not await reader.done(after):
                    return
                self.metrics.events_lag.labels(READER).set((await event_bounds(self.db))[1] - after)
            await self._tidy(link)
            try:
                async with asyncio.timeout(IDLE_S):
                    await changed.wait()
            except TimeoutError:
                continue

    async def _publish(self, link: MqttLink, events: Sequence[Event]) -> None:
        """Publish a page of events: of several about one row what it has become."""
        news = {(event.kind, event.key) for event in events if event.news}
        messages: list[Message] = []
        touched: set[str] = set()
        keys = dict.fromkeys(event.key for event in events if event.kind == "sighting")
        for stored in await self.sightings.listed(list(keys)):
            touched.add(stored.sighting.camera)
            messages.append(sighting_message(self.settings.prefix, stored))
            if ("sighting", stored.sighting.sighting_id) in news:
                messages += await self._of_person(stored)
        alerts = [event.key for event in events if event.kind == "alert"]
        messages += [alert_message(self.settings.prefix, alert) for alert in (await AlertStore(self.db).listed(alerts) if alerts else ())]
        await self._send(link, messages)
        await self._send(link, await self._occupancy(sorted(touched)))

    async def _of_person(self, stored: StoredSighting) -> list[Message]:
        sighting, messages = stored.sighting, list[Message]()
        if sighting.outcome == "subject" and sighting.subject is not None:
            topic, retain = person_topic(self.settings.prefix, sighting.camera), self.settings.retain_names
            if retain:
                await Retained(self.db).keep(
                    [topic], camera=sighting.camera, sighting_id=sighting.sighting_id, subject_id=sighting.subject_id
                )
            messages.append(Message(topic=topic, payload=sighting.subject.encode(), retain=retain))
            if self.frigate is not None:
                self.frigate.see(stored)
        judged = (sighting.outcome, sighting.subject_id)
        if self.settings.double_take and self._judged.get(sighting.sighting_id) != judged:
            self._judged[sighting.sighting_id] = judged
            if len(self._judged) > REMEMBERED:
                self._judged.popitem(last=False)
            messages += double_take_messages(stored)
        return messages

    async def _occupancy(self, cameras: Sequence[str]) -> list[Message]:
        messages = []
        for camera, outcomes in (await Retained(self.db).in_view(cameras) if cameras else {}).items():
            own = occupancy_messages(self.settings.prefix, camera, outcomes, double_take=self.settings.double_take)
            await Retained(self.db).keep([message.topic for message in own], camera=camera)
            messages += own
        return messages

    async def _greet(self, link: MqttLink) -> None:
        """Say on a new connection that we are there, and all that the broker keeps."""
        self._announced.clear()
        discovery, prefix = self.settings.discovery_prefix, self.settings.prefix
        messages = platform_discovery(discovery, prefix) if discovery else []
        await self._send(link, [*messages, Message(topic=status_topic(prefix), payload=ONLINE, retain=True)])

    async def _tidy(self, link: MqttLink) -> None:
        """Announce cameras that came; take back what is of cameras that went, and of people who are not to be named any more."""
        there = sorted(await self.cameras())
        for camera in [name for name in there if name not in self._announced]:
            configs = (
                camera_discovery(self.settings.discovery_prefix, self.settings.prefix, camera) if self.settings.discovery_prefix else []
            )
            await Retained(self.db).keep([config.topic for config in configs], camera=camera)
            await self._send(link, [*configs, *await self._occupancy([camera])])
        self._announced = set(there)
        if topics := await Retained(self.db).stale(there):
            await self._send(link, [Message(topic=topic, payload=b"", retain=True) for topic in topics])
            await Retained(self.db).forget(topics)

    async def _send(self, link: MqttLink, messages: Sequence[Message]) -> None:
        await link.publish(messages)
        self.metrics.mqtt_published.inc(len(messages))

    async def _leave(self, reader: EventReader) -> None:
        try:
            await reader.leave()
        except UnavailableError as err:
            _log.warning("mqtt: the next publisher waits for the lease to end", reason=str(err))
