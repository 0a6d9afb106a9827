"""What was stored, told to other processes: ids over PostgreSQL's NOTIFY, the sightings read back by who wants them.

An id is 36 bytes, whoever listens reads what is stored by then, so a notification can't be wrong, only late. One that is lost (a listener
that was away) is not sent again: live views read their lists anew when they reconnect.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from core.errors import NotFoundError, UnavailableError
from core.ports import Database
from sightings.record import StoredSighting
from sightings.store import SightingStore

CHANNEL = "sighting"
MAX_PENDING = 10_000  # ids that may wait while the database is away; the oldest go first
IDS_AT_A_TIME = 200  # NOTIFY takes payloads below 8,000 bytes
RETRY_S = 1.0

_log = structlog.get_logger(__name__)


class LiveNotifier:
    """Tells other processes which sightings changed. Thread rule: one event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._pending: deque[str] = deque(maxlen=MAX_PENDING)
        self._filled = asyncio.Event()

    def publish(self, stored: StoredSighting) -> None:
        """Take note of a sighting that changed; never waits. For SightingsService.publish_event."""
        self._pending.append(stored.sighting.sighting_id)
        self._filled.set()

    async def run(self) -> None:
        """Send notes until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._pending:
                ids = [self._pending.popleft() for _ in range(min(IDS_AT_A_TIME, len(self._pending)))]
                try:
                    await self._db.fetch(f"select pg_notify('{CHANNEL}', $1)", " ".join(dict.fromkeys(ids)))
                except UnavailableError as err:
                    _log.warning("live sightings are not told", reason=str(err), ids=len(ids))


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
