"""What another process stored: the store tells ids over PostgreSQL's NOTIFY, whoever wants the sightings reads them back.

A note that is lost (a listener that was away) is not sent again: live views read their lists anew when they reconnect.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from core.errors import NotFoundError, UnavailableError
from core.ports import Database
from sightings.record import StoredSighting
from sightings.store import CHANNEL, SightingStore

RETRY_S = 1.0

_log = structlog.get_logger(__name__)


async def follow_live(db: Database, store: SightingStore, show: Callable[[StoredSighting], None]) -> None:
    """Call ``show`` for each sighting that another process stored, until cancelled; over losses of the database too."""
    while True:
        try:
            async with db.listen(CHANNEL) as notes:
                async for note in notes:
                    for stored in await _read(store, note.split()):
                        show(stored)
        except UnavailableError as err:
            _log.warning("live sightings can't be followed, trying again", reason=str(err))
        await asyncio.sleep(RETRY_S)


async def _read(store: SightingStore, ids: Sequence[str]) -> list[StoredSighting]:
    found = []
    for sighting_id in ids:
        try:
            found.append(await store.get(sighting_id))
        except NotFoundError:
            continue  # erased since
    return found
