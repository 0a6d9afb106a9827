"""Names for Frigate's events of people: a face that is named while one person is in view of the same camera names that event.

Never more than that: while Frigate follows several people at once at a camera, or we have named several, nobody is labelled.
Source: https://docs.frigate.video (MQTT topic ``frigate/events``; ``POST /api/events/{id}/sub_label``).
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
import structlog

from core.adapters.mqtt import MqttLink
from core.metrics import Metrics
from core.settings import FrigateSettings
from sightings.notify.topics import confidence
from sightings.record import Filter, StoredSighting
from sightings.store import SightingStore

POST_S: Final = 5.0
ATTEMPTS: Final = 3
REMEMBERED: Final = 500  # events of people
SLACK_S: Final = 1.0  # how far its clock and ours may be apart
MAX_LABEL: Final = 100  # characters that Frigate takes
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Person:
    """An event of Frigate about a person."""

    event_id: str
    camera: str
    """Our name of it."""
    began_s: float
    ended_s: float | None
    label: str | None = None
    """What we have written."""

    def overlaps(self, first_s: float, last_s: float) -> bool:
        """Tell whether it was in view in a stretch of time."""
        return first_s <= (self.ended_s or float("inf")) + SLACK_S and last_s >= self.began_s - SLACK_S


def person_of(payload: bytes, cameras: dict[str, str]) -> Person | None:
    """Read a message of ``frigate/events``; None when it is about no person, or can't be read. Pure."""
    try:
        after: Any = msgspec.json.decode(payload)["after"]
        event_id, camera, began_s, ended_s = after["id"], after["camera"], float(after["start_time"]), after.get("end_time")
        if after["label"] != "person" or not _ID.fullmatch(event_id):
            return None
        return Person(event_id, cameras.get(camera, camera), began_s, None if ended_s is None else float(ended_s))
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError):
        return None


@dataclass(kw_only=True)
class FrigateLabels:
    """Writes sub labels. Thread rule: one event loop."""

    settings: FrigateSettings
    sightings: SightingStore
    session: aiohttp.ClientSession
    metrics: Metrics
    clock: Callable[[], float] = time.time
    _people: OrderedDict[str, Person] = field(init=False, default_factory=OrderedDict)
    _seen: asyncio.Queue[StoredSighting] = field(init=False, default_factory=lambda: asyncio.Queue(REMEMBERED))

    async def listen(self, link: MqttLink) -> None:
        """Follow Frigate's events over a connection. Raises UnavailableError when it is lost."""
        await link.subscribe(self.settings.topic)
        async for message in link.messages():
            await self.hear(message.payload)

    async def hear(self, payload: bytes) -> None:
        """Take a message of Frigate, and name its person if we know who it is."""
        person = person_of(payload, self.settings.cameras)
        if person is None:
            return
        known = self._people.get(person.event_id)
        person.label = known.label if known else None
        self._people[person.event_id] = person
        if len(self._people) > REMEMBERED:
            self._people.popitem(last=False)
        wanted = Filter(camera=person.camera, outcome="subject", since_s=max(0.0, person.began_s - SLACK_S), until_s=self._end_s(person))
        found, _ = await self.sightings.query(wanted, limit=20)
        await self._label(person, found)

    def see(self, stored: StoredSighting) -> None:
        """Take somebody whom we have named; ``name_seen`` writes the name. What is beyond the queue is left out and counted."""
        try:
            self._seen.put_nowait(stored)
        except asyncio.QueueFull:
            self.metrics.frigate_labels.labels("dropped").inc()

    async def name_seen(self) -> None:
        """Name the people of those whom we have named, until cancelled; a Frigate that is slow keeps nobody else waiting."""
        while True:
            stored = await self._seen.get()
            sighting = stored.sighting
            for person in list(self._people.values()):
                if person.camera == sighting.camera and person.overlaps(sighting.first_s, sighting.last_s):
                    await self._label(person, [stored])

    async def _label(self, person: Person, found: list[StoredSighting]) -> None:
        names = {stored.sighting.subject for stored in found}
        others = [
            one
            for one in self._people.values()
            if one.event_id != person.event_id and one.camera == person.camera and one.overlaps(person.began_s, self._end_s(person))
        ]
        if len(names) != 1 or others:
            return
        best = max((stored.sighting for stored in found), key=lambda sighting: sighting.score or 0.0)
        name = (best.subject or "")[:MAX_LABEL]
        if name and person.label != name:
            score = round(confidence(best.score, best.threshold) / 100, 2)
            if await self._post(person.event_id, {"subLabel": name, "subLabelScore": score}):
                person.label = name

    def _end_s(self, person: Person) -> float:
        return (self.clock() if person.ended_s is None else person.ended_s) + SLACK_S

    async def _post(self, event_id: str, body: dict[str, Any]) -> bool:
        url = f"{(self.settings.url or '').rstrip('/')}/api/events/{event_id}/sub_label"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with asyncio.timeout(POST_S), self.session.post(url, json=body, allow_redirects=False) as response:
                    problem = "" if response.status == 200 else f"it answered {response.status}"
            except (TimeoutError, aiohttp.ClientError, OSError) as err:
                problem = f"no answer ({type(err).__name__})"
            if not problem:
                self.metrics.frigate_labels.labels("written").inc()
                return True
            if attempt < ATTEMPTS:
                await asyncio.sleep(0.2 * 2**attempt)
        self.metrics.frigate_labels.labels("failed").inc()
        _log.warning("frigate: a sub label was not written", frigate_event=event_id, reason=problem)
        return False


@asynccontextmanager
async def open_frigate(settings: FrigateSettings, sightings: SightingStore, metrics: Metrics) -> AsyncIterator[FrigateLabels | None]:
    """Open what labels Frigate's events; None when the settings name no Frigate."""
    if settings.url is None:
        yield None
        return
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield FrigateLabels(settings=settings, sightings=sightings, session=session, metrics=metrics)
