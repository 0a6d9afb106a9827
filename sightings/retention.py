"""Erases sightings that are older than they may be, pictures and embeddings with them."""

import asyncio
import time
from datetime import timedelta

import structlog

from core.errors import UnavailableError
from core.metrics import Metrics
from sightings.store import SightingStore

CHUNK = 500  # sightings a transaction: a camera's writers wait for one chunk at most
PAUSE_S = 0.05  # between chunks, so that a long clean-up leaves the database to others
EVERY_S = 600.0

_log = structlog.get_logger(__name__)


class Retention:
    """Keeps the record no longer than allowed, by the database's clock. Any number of processes may run it at once."""

    def __init__(self, *, store: SightingStore, keep: timedelta, metrics: Metrics) -> None:
        self._store = store
        self._keep_s = keep.total_seconds()
        self._metrics = metrics

    async def run(self) -> None:
        """Clean up now and then every ten minutes, until cancelled. Waits while the database is away."""
        while True:
            try:
                await self.clean_up()
            except UnavailableError as err:
                _log.warning("retention waits", reason=str(err), retry_s=EVERY_S)
            await asyncio.sleep(EVERY_S)

    async def clean_up(self) -> int:
        """Erase all that is too old, in chunks, and return how many sightings that were.

        Raises:
            UnavailableError: what was erased so far stays erased; the next run goes on.
        """
        before_s = await self._store.now_s() - self._keep_s
        total = 0
        while True:
            deleted = await self._store.delete_stored_before(before_s, limit=CHUNK)
            self._metrics.sightings_expired.inc(deleted)
            total += deleted
            if deleted == 0:
                self._metrics.sightings_retention_ran.set(time.time())
                return total
            await asyncio.sleep(PAUSE_S)
