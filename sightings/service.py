"""From the log to the database: stores sightings in batches, with episodes and alerts."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from core.carried import decode_sighting
from core.errors import MessageError, SightlineError, UnavailableError
from core.metrics import Metrics
from core.ports import Consumer, Log, Record
from core.topology import SIGHTINGS_GROUP, SIGHTINGS_TOPIC
from core.vault import Vault
from sightings.record import Arrival, StoredAlert, check_sighting
from sightings.store import SightingStore

TOPIC = SIGHTINGS_TOPIC
GROUP = SIGHTINGS_GROUP
MAX_BATCH = 256  # records a transaction: large enough to catch up after an outage, small enough to finish well within a second
POLL_S = 1.0
RETRY_FIRST_S = 0.2
RETRY_MOST_S = 5.0
SILENCE = timedelta(seconds=60)  # a recognizer tells of a live track every 2 s: one that is silent for so long has died, or lost its log
SILENCE_CHECK_S = 5.0
SILENT_CHUNK = 200

_log = structlog.get_logger(__name__)


class SightingsService:
    """Stores what the recognizers publish. Thread rule: one event loop.

    Order of events for a batch: database commit, which tells the log of events, then log commit. A crash in between makes the batch come
    again, which changes nothing in the database and tells nothing.
    """

    def __init__(
        self,
        *,
        log: Log,
        store: SightingStore,
        metrics: Metrics,
        vault: Vault | None = None,
        publish_alert: Callable[[StoredAlert], None] = lambda _alert: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Compose the service.

        Args:
            log: where sightings come from.
            store: where they go.
            metrics: of the process.
            vault: opens what recognizers have sealed.
            publish_alert: told each alert that was raised, after the commit; never waits. Others hear of it from the log of events.
            clock: Unix seconds.
        """
        self._log = log
        self._store = store
        self._metrics = metrics
        self._vault = vault
        self._publish_alert = publish_alert
        self._clock = clock
        self._heard_since_s = clock()
        self.joined = False
        """Whether the service reads the log."""

    async def run(self) -> None:
        """Consume until cancelled. While the database or the log is away, it waits for it and loses nothing."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consume(), name="sightings.consume")
            group.create_task(self._close_silent(), name="sightings.silent")

    async def close_silent(self) -> int:
        """Close open sightings of which nothing was heard for a minute, and return how many: their recognizer was killed.

        Raises:
            UnavailableError: the next call goes on.
        """
        total = 0
        while closed := await self._store.close_silent(SILENCE, limit=SILENT_CHUNK):
            total += closed
        self._metrics.sightings_silent.inc(total)
        return total

    async def _close_silent(self) -> None:
        """Look for silent sightings now and then, but only after a minute in which revisions would have been heard."""
        while True:
            await asyncio.sleep(SILENCE_CHECK_S)
            if self._clock() - self._heard_since_s < SILENCE.total_seconds():
                continue
            try:
                await self.close_silent()
            except UnavailableError as err:
                self._heard_since_s = self._clock()
                _log.warning("silent sightings stay open", reason=str(err))

    async def _consume(self) -> None:
        backoff_s = RETRY_FIRST_S
        while True:
            try:
                async with self._log.consumer([TOPIC], GROUP) as consumer:
                    while True:
                        records = await consumer.poll(MAX_BATCH, POLL_S)
                        self.joined = True
                        if records:
                            await self._finish(consumer, records)
                        backoff_s = RETRY_FIRST_S
            except UnavailableError as err:
                self.joined = False
                _log.warning("sightings wait", reason=str(err), retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, RETRY_MOST_S)
                self._heard_since_s = self._clock()

    async def _finish(self, consumer: Consumer, records: Sequence[Record]) -> None:
        arrivals: dict[Record, Arrival] = {}
        for record in records:
            try:
                arrivals[record] = check_sighting(*decode_sighting(self._vault, record.value))
            except MessageError as err:
                await self._put_aside(consumer, record, err)
        if arrivals:
            await self._store_all(consumer, arrivals)

    async def _store_all(self, consumer: Consumer, arrivals: dict[Record, Arrival]) -> None:
        """Store a batch; if the database refuses it, store one by one, so that one bad record holds nobody up."""
        try:
            with self._metrics.store_seconds.time():
                changed = await self._store.record(list(arrivals.values()))
        except UnavailableError:
            raise
        except SightlineError as err:
            if len(arrivals) == 1:
                await self._put_aside(consumer, next(iter(arrivals)), err)
                return
            for record, arrival in arrivals.items():
                await self._store_all(consumer, {record: arrival})
            return
        for sighting in changed.sightings:
            if sighting.sighting_id in changed.new:
                self._metrics.stored_seconds.labels(sighting.region).observe(max(0.0, self._clock() - sighting.times.captured_s))
            self._metrics.sightings_stored.labels(sighting.camera, sighting.outcome).inc()
        self._metrics.sightings_dropped.inc(changed.dropped)
        for alert in changed.alerts:
            self._metrics.alerts_raised.labels(alert.watchlist, alert.camera).inc()
            self._publish_alert(alert)
        await consumer.commit(list(arrivals))

    async def _put_aside(self, consumer: Consumer, record: Record, err: SightlineError) -> None:
        _log.warning("sighting dead-lettered", partition=record.partition, offset=record.offset, reason=str(err))
        await consumer.dead_letter(record, str(err))
        self._metrics.sightings_dead.inc()
