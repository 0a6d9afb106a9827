"""What any process stored: the log of events tells ids, whoever wants the sightings reads them back, a batch at a time."""

import asyncio
from collections.abc import Callable

import structlog

from core.errors import UnavailableError
from core.events import RETRY_S, event_bounds, read_events, watch_events
from core.ports import Database
from sightings.record import StoredSighting
from sightings.store import SightingStore

_log = structlog.get_logger(__name__)


async def follow_live(db: Database, store: SightingStore, show: Callable[[StoredSighting], None]) -> None:
    """Call ``show`` for each sighting that is stored or changed from now on, until cancelled; over losses of the database too."""
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch_events(db, changed), name="sightings.live")
        await _show_all(db, store, show, changed)


async def _show_all(db: Database, store: SightingStore, show: Callable[[StoredSighting], None], changed: asyncio.Event) -> None:
    after: int | None = None
    while True:
        try:
            if after is None:
                after = (await event_bounds(db))[1]
            await changed.wait()
            changed.clear()
            while events := await read_events(db, after):
                for stored in await store.listed(list(dict.fromkeys(event.key for event in events if event.kind == "sighting"))):
                    show(stored)
                after = events[-1].event_id
        except UnavailableError as err:
            _log.warning("live sightings can't be followed, trying again", reason=str(err))
            await asyncio.sleep(RETRY_S)
            changed.set()
