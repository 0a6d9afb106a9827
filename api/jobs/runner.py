"""Does jobs: one at a time in each process, any number of processes. Beside that it keeps house: callbacks, results, what is too old."""

import asyncio
import traceback
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from api.jobs.callback import Callbacks
from api.jobs.files import open_files
from api.jobs.lease import CancelledJobError, Lease, LeaseLostError, claim
from api.jobs.record import Done, Item, JobState, Kind, results_key
from api.jobs.report import json_line
from api.jobs.store import CHANNEL, JobStore
from api.jobs.work import Session, Work
from api.storage.store import UploadStore
from core.errors import SightlineError, UnavailableError
from core.metrics import Metrics
from core.ports import Database, ObjectStore
from core.runner import first_error
from core.settings import Settings

POLL_S: Final = 2.0  # a job whose runner died, or whose wait is over, is noticed so soon
PAUSE_S: Final = 1.0  # first wait while a server is away; doubles
LONGEST_PAUSE_S: Final = 30.0
MAX_CRASHES: Final = 5  # before its items are known: then nothing smaller can be set apart
ERASED_AT_A_TIME: Final = 20
CALLS_AT_A_TIME: Final = 5  # each may take ten seconds; others take turns
_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class JobRunner:
    """Runs jobs of this process. Thread rule: one event loop."""

    db: Database
    objects: ObjectStore
    works: Mapping[Kind, Work]
    settings: Settings
    metrics: Metrics
    runner_id: uuid.UUID = field(default_factory=uuid.uuid4)
    _pauses: int = 0

    async def run(self) -> None:
        """Work until cancelled; a job in hand is given back at once then. Waits while the database is away."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work(), name="jobs")
            group.create_task(self._keep_house(), name="jobs' house")

    async def run_one(self) -> bool:
        """Do one job that is due, as far as it goes; False when there is none. Raises UnavailableError: the database is away."""
        lease = await claim(self.db, self.runner_id, self.settings.jobs.lease_s)
        if lease is None:
            return False
        kind = lease.job.kind
        self.metrics.jobs_running.labels(kind).inc()
        try:
            await self._held(lease)
        finally:
            self.metrics.jobs_running.labels(kind).dec()
        return True

    async def _work(self) -> None:
        while True:
            try:
                async with self.db.listen(CHANNEL) as notifications:
                    await self._work_connected(aiter(notifications))
            except UnavailableError as err:
                _log.warning("jobs wait: the database is away", reason=str(err))
                await asyncio.sleep(POLL_S)

    async def _work_connected(self, notifications: AsyncIterator[str]) -> None:
        """Do what is due, then wait for a word or a while, until the listening connection ends."""
        ended = object()
        waiting: asyncio.Future[object] | None = None
        try:
            while True:
                while await self.run_one():
                    pass
                waiting = waiting or asyncio.ensure_future(anext(notifications, ended))
                done, _ = await asyncio.wait({waiting}, timeout=POLL_S)
                if done and waiting.result() is ended:
                    return
                waiting = None if done else waiting
        finally:
            if waiting is not None:
                waiting.cancel()

    async def _held(self, lease: Lease) -> None:
        """Do a job while its lease is renewed; whatever happens, the job is left as the next runner needs it."""
        try:
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(self._renew(lease), name="lease")
                await self._do(lease)
                beat.cancel()
        except BaseExceptionGroup as failed:
            await self._settle(lease, first_error(failed))
        else:
            self._pauses = 0

    async def _settle(self, lease: Lease, err: BaseException) -> None:
        """Leave a job that could not go on."""
        log = _log.bind(job=str(lease.job.job_id), kind=lease.job.kind, reason=str(err))
        if isinstance(err, LeaseLostError):
            log.warning("another process has the job")
        elif isinstance(err, CancelledJobError):
            await self._close(lease, "cancelled", "")
        elif isinstance(err, UnavailableError):
            self._pauses += 1
            delay_s = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** min(10, self._pauses - 1))
            log.warning("job waits", seconds=delay_s)
            await lease.pause(delay_s, str(err))
        elif isinstance(err, SightlineError):
            log.warning("job failed")
            await self._close(lease, "failed", str(err))
        else:
            raise err

    async def _close(self, lease: Lease, state: JobState, reason: str) -> None:
        await lease.close(state, reason)
        self.metrics.jobs_ended.labels(lease.job.kind, state).inc()

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self.settings.jobs.lease_s / 3)
            await lease.renew()

    async def _do(self, lease: Lease) -> None:
        job = lease.job
        try:
            if not job.listed and job.crashes >= MAX_CRASHES:
                await self._close(lease, "failed", f"the process ended {job.crashes} times while the list of what to do was read")
                return
            async with (
                open_files(self.objects, job.collection, self.settings.data_dir) as files,
                self.works[job.kind].open(lease, files) as on,
            ):
                if not job.listed:
                    await lease.add_items(await on.list_items())
                while items := await lease.take(on.batch, most=self.settings.jobs.max_attempts):
                    await self._some(on, items, lease)
            if ended := await lease.end():
                self.metrics.jobs_ended.labels(job.kind, ended).inc()
        except asyncio.CancelledError:
            await asyncio.shield(lease.pause(0))
            raise

    async def _some(self, on: Session, items: list[Item], lease: Lease) -> None:
        """Do some items; one that breaks the work is tried again alone, and set apart in the end."""
        kind = lease.job.kind
        try:
            await on.work(items, lease)
        except (UnavailableError, LeaseLostError, CancelledJobError):
            raise
        except Exception as err:  # noqa: BLE001 - the boundary of an item: no input may end the process
            place = traceback.extract_tb(err.__traceback__)[-1]  # without the values: they are pictures and names
            _log.error("items failed", job=str(lease.job.job_id), error=type(err).__name__, at=f"{place.filename}:{place.lineno}")
            words = f"{type(err).__name__}: {err}".splitlines()[0][:300]
            await lease.finish([self._again(item, words) for item in items])
            self.metrics.job_items.labels(kind, "failed").inc(len(items))
        else:
            self.metrics.job_items.labels(kind, "looked_at").inc(len(items))

    def _again(self, item: Item, words: str) -> Done:
        words = words.replace("\x00", "?")
        if item.attempts >= self.settings.jobs.max_attempts:
            return Done(seq=item.seq, state="set_apart", reason="error", detail=words)
        return Done(seq=item.seq, state="waiting", reason="error", detail=words)

    async def _keep_house(self) -> None:
        while True:
            try:
                await self.keep_house()
            except UnavailableError as err:
                _log.warning("housekeeping of jobs waits", reason=str(err))
            await asyncio.sleep(POLL_S)

    async def keep_house(self) -> None:
        """Write results and make calls that are due, erase what is too old or used up. Raises UnavailableError."""
        callbacks = Callbacks(self.db, settings=self.settings, metrics=self.metrics)
        for _ in range(CALLS_AT_A_TIME):
            if not await callbacks.send_one():
                break
        for row in await self.db.fetch(
            "select job_id, version from job where results_due and state not in ('queued', 'running') limit $1", ERASED_AT_A_TIME
        ):
            await self._write_results(row["job_id"], row["version"])
        await UploadStore(self.db, self.objects).erase_old(timedelta(days=self.settings.storage.upload_keep_days))
        old = await self.db.fetch(
            "select job_id from job where finished_at < now() - $1::interval and state not in ('queued', 'running') limit $2",
            timedelta(days=self.settings.jobs.retention_days),
            ERASED_AT_A_TIME,
        )
        for row in old:
            await self.objects.delete(results_key(row["job_id"]))
            await self.db.execute("delete from job where job_id = $1", row["job_id"])

    async def _write_results(self, job_id: uuid.UUID, version: int) -> None:
        """Put the results into object storage as they are now; an erasure meanwhile has it done again."""
        store = JobStore(self.db)

        async def lines() -> AsyncIterator[bytes]:
            async for item in store.every_item(job_id):
                yield json_line(item)

        await self.objects.put(results_key(job_id), lines())
        await self.db.execute("update job set results_due = false where job_id = $1 and version = $2", job_id, version)
