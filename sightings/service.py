"""From the log to the database: consumes the topic ``sightings``, stores in batches, then tells who is watching."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from core.errors import MessageError, SightlineError, UnavailableError
from core.metrics import Metrics
from core.ports import Consumer, Log, Record
from core.schema import Sighting, decode
from sightings.record import Arrival, StoredSighting, check_sighting
from sightings.store import SightingStore

TOPIC = "sightings"
GROUP = "sightings"
MAX_BATCH = 256  # records a transaction: large enough to catch up after an outage, small enough to finish well within a second
POLL_S = 1.0
RETRY_FIRST_S = 0.2
RETRY_MOST_S = 5.0

_log = structlog.get_logger(__name__)


class SightingsService:
    """Stores what the recognizers publish. Thread rule: one event loop.

    Order of events for a batch: database commit, live events, log commit. A crash in between makes the batch come again, which changes
    nothing in the database. A live event may be lost in a crash; what is stored never is.
    """

    def __init__(
        self,
        *,
        log: Log,
        store: SightingStore,
        metrics: Metrics,
        publish_event: Callable[[StoredSighting], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._store = store
        self._metrics = metrics
        self._publish_event = publish_event
        self._clock = clock

    async def run(self) -> None:
        """Consume until cancelled. While the database or the log is away, it waits for it and loses nothing."""
        backoff_s = RETRY_FIRST_S
        while True:
            try:
                async with self._log.consumer([TOPIC], GROUP) as consumer:
                    while True:
                        records = await consumer.poll(MAX_BATCH, POLL_S)
                        if records:
                            await self._finish(consumer, records)
                        backoff_s = RETRY_FIRST_S
            except UnavailableError as err:
                _log.warning("sightings wait", reason=str(err), retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, RETRY_MOST_S)

    async def _finish(self, consumer: Consumer, records: Sequence[Record]) -> None:
        arrivals: dict[Record, Arrival] = {}
        for record in records:
            try:
                arrivals[record] = _read(record)
            except MessageError as err:
                await self._put_aside(consumer, record, err)
        if arrivals:
            await self._store_all(consumer, arrivals)

    async def _store_all(self, consumer: Consumer, arrivals: dict[Record, Arrival]) -> None:
        """Store a batch; if the database refuses it, store one by one, so that one bad record holds nobody up."""
        try:
            changed = await self._store.upsert(list(arrivals.values()), now_s=self._clock())
        except UnavailableError:
            raise
        except SightlineError as err:
            if len(arrivals) == 1:
                await self._put_aside(consumer, next(iter(arrivals)), err)
                return
            for record, arrival in arrivals.items():
                await self._store_all(consumer, {record: arrival})
            return
        for stored in changed:
            self._metrics.sightings_stored.labels(stored.sighting.camera, stored.sighting.outcome).inc()
            self._publish_event(stored)
        await consumer.commit(list(arrivals))

    async def _put_aside(self, consumer: Consumer, record: Record, err: SightlineError) -> None:
        _log.warning("sighting dead-lettered", partition=record.partition, offset=record.offset, reason=str(err))
        await consumer.dead_letter(record, str(err))
        self._metrics.sightings_dead.inc()


def _read(record: Record) -> Arrival:
    sighting, thumbnail = decode(Sighting, record.value)
    return check_sighting(sighting, bytes(thumbnail))
