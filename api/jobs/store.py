"""Jobs as clients see them: made, listed, cancelled, tried again. Runners are in api/jobs/lease.py."""

import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from api.errors import BusyError
from api.jobs.record import OPEN, Item, ItemState, Job, JobState, Kind, callback_label, result_label
from core.errors import ConflictError, NotFoundError
from core.events import tell
from core.ports import Database
from sightings.cursor import Cursor

CHANNEL: Final = "job"
MAX_OPEN: Final = 1000  # jobs that wait or run; each costs a row, but nobody wants to wait behind a thousand
COLUMNS: Final = (
    "job_id, kind, state, collection, params, uploads, listed, total, done, rejected, set_apart, reason, crashes, created_by, "
    "created_at, started_at, finished_at, version"
)
ITEM_COLUMNS: Final = "seq, state, input, subject, attempts, reason, detail, result, finished_at"
_ADD = f"""
insert into job (job_id, kind, collection, params, uploads, created_by, callback)
select $1, $2, $3, $4, $5, $6, $7 where (select count(*) from job where state in ('queued', 'running')) < {MAX_OPEN}
returning {COLUMNS}
"""
_LIST = f"""
select {COLUMNS} from job
where ($1::text[] is null or collection = any($1)) and ($2::text is null or kind = $2) and ($3::text is null or state = $3)
  and ($4::timestamptz is null or (created_at, job_id) < ($4, $5))
order by created_at desc, job_id desc limit $6
"""
_ITEMS = f"""
select {ITEM_COLUMNS} from job_item
where job_id = $1 and seq > $2 and ($3::text is null or state = $3) order by seq limit $4
"""
END: Final = f"""
update job set state = $2, reason = $3, finished_at = now(), runner = null, lease_until = null, cancelling = false,
    callback_due_at = case when callback is null then null else now() end, callback_tries = 0,
    results_due = kind = 'recognize', erase_uploads = erase_uploads or $2 = 'succeeded', version = version + 1
where job_id = $1 returning {COLUMNS}
"""
_CANCEL = f"update job set cancelling = true, version = version + 1 where job_id = $1 returning {COLUMNS}"
_AGAIN = """
update job_item set state = 'waiting', attempts = 0, due_at = now(), reason = '', detail = '', result = null, subject_ids = '{}',
    finished_at = null
where job_id = $1 and state = any($2) and reason <> 'erased'
"""
_REOPEN = f"""
update job j set state = 'queued', cancelling = false, due_at = now(), crashes = 0, reason = '', finished_at = null,
    done = (select count(*) from job_item where job_id = $1 and state = 'done'),
    rejected = (select count(*) from job_item where job_id = $1 and state = 'rejected'),
    set_apart = (select count(*) from job_item where job_id = $1 and state = 'set_apart'),
    version = version + 1
where job_id = $1 returning {COLUMNS}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to make."""

    kind: Kind
    collection: str
    params: dict[str, Any]
    uploads: Sequence[uuid.UUID]
    actor: str
    callback: dict[str, str] | None = None
    """``url`` and ``secret``."""


class JobStore:
    """Jobs. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, new: NewJob) -> Job:
        """Make a job; a runner of any process takes it up.

        Raises:
            BusyError: too many wait already.
        """
        job_id = uuid.uuid4()
        callback = new.callback and self._db.vault.seal(msgspec.json.encode(new.callback), label=callback_label(job_id))
        async with self._db.transaction() as tx:
            rows = await tx.fetch(_ADD, job_id, new.kind, new.collection, new.params, list(new.uploads), new.actor, callback)
            if not rows:
                raise BusyError(f"{MAX_OPEN} jobs wait or run; try again when some have ended")
            await self._tell(tx, job_of(rows[0]))
        return job_of(rows[0])

    async def get(self, job_id: uuid.UUID, *, collections: Collection[str] | None) -> Job:
        """Return a job of one of these collections (None = any). Raises NotFoundError."""
        rows = await self._db.fetch(f"select {COLUMNS} from job where job_id = $1", job_id)
        if not rows or (collections is not None and rows[0]["collection"] not in collections):
            raise NotFoundError(f"job {job_id}: there is none")
        return job_of(rows[0])

    async def page(
        self, *, collections: Collection[str] | None, kind: Kind | None, state: JobState | None, after: Cursor | None, limit: int
    ) -> list[Job]:
        """Return jobs, newest first."""
        at, row_id = (after.at, after.row_id) if after else (None, None)
        given = None if collections is None else list(collections)
        return [job_of(row) for row in await self._db.fetch(_LIST, given, kind, state, at, row_id, limit)]

    async def items(self, job_id: uuid.UUID, *, state: ItemState | None = None, after: int = -1, limit: int = 500) -> list[Item]:
        """Return a page of items in their order."""
        return [self._item(job_id, row) for row in await self._db.fetch(_ITEMS, job_id, after, state, limit)]

    async def every_item(self, job_id: uuid.UUID) -> AsyncIterator[Item]:
        """Yield all items in their order; no transaction is held in between."""
        after = -1
        while page := await self.items(job_id, after=after):
            for item in page:
                yield item
            after = page[-1].seq

    async def cancel(self, job_id: uuid.UUID) -> Job:
        """Stop a job: at once, or after the items that are being looked at. What is done stays. Raises ConflictError."""
        async with self._db.transaction() as tx:
            rows = await tx.fetch("select state from job where job_id = $1 for update", job_id)
            if not rows or rows[0]["state"] not in OPEN:
                raise ConflictError(f"job {job_id}: has ended already")
            waits = rows[0]["state"] == "queued"
            rows = await tx.fetch(END, job_id, "cancelled", "") if waits else await tx.fetch(_CANCEL, job_id)
            await self._tell(tx, job_of(rows[0]))
        return job_of(rows[0])

    async def retry(self, job_id: uuid.UUID, states: Sequence[ItemState]) -> Job:
        """Do the items in these states again, and those that a cancelled job left; the others stay as they are.

        Raises:
            ConflictError: it is still open, or nothing is left to do.
        """
        async with self._db.transaction() as tx:
            rows = await tx.fetch("select state, listed from job where job_id = $1 for update", job_id)
            if not rows or rows[0]["state"] in OPEN:
                raise ConflictError(f"job {job_id}: has not ended; cancel it first")
            await tx.execute(_AGAIN, job_id, list(states))
            left = await tx.fetch("select from job_item where job_id = $1 and state = 'waiting' limit 1", job_id)
            if not left and rows[0]["listed"]:
                raise ConflictError(f"job {job_id}: nothing is left to do again")
            job = job_of((await tx.fetch(_REOPEN, job_id))[0])
            await self._tell(tx, job)
        return job

    async def _tell(self, tx: Database, job: Job) -> None:
        await tx.execute("select pg_notify($1, '')", CHANNEL)
        await tell(tx, "job", [(str(job.job_id), job.version)], collection=job.collection)

    def _item(self, job_id: uuid.UUID, row: dict[str, Any]) -> Item:
        return item_of(self._db, job_id, row)


def job_of(row: dict[str, Any]) -> Job:
    """Read a row of COLUMNS."""
    return Job(**row)


def item_of(db: Database, job_id: uuid.UUID, row: dict[str, Any]) -> Item:
    """Read a row of ITEM_COLUMNS."""
    sealed = row["result"]
    result = None if sealed is None else msgspec.json.decode(db.vault.open(sealed, label=result_label(job_id, row["seq"])))
    return Item(**{**row, "result": result})
