"""A job in the hands of one runner: taken by a lease, fenced at every write, given back or lost.

Whoever holds the lease writes; a runner that was away too long finds that another has it, and changes nothing. So no item is done twice
visibly, and none is left out, whichever process dies when.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final

import msgspec

from api.jobs.record import Done, Item, Job, JobState, NewItem, result_label
from api.jobs.store import COLUMNS, END, ITEM_COLUMNS, item_of, job_of
from core.errors import SightlineError
from core.events import tell
from core.ports import Database

LOCK_NAMES: Final = "select pg_advisory_xact_lock{shared}(hashtextextended('sightline/job names', 0))"
"""Results that name people are written under the shared lock, erasures under the other: neither misses the other."""
LIST_AT_A_TIME: Final = 2000
NARROWING: Final = 8  # each crash divides the batch by so much, until the item that kills is alone

_CLAIM = f"""
update job set state = 'running', crashes = crashes + (runner is not null)::int, runner = $1, lease_until = now() + $2,
    started_at = coalesce(started_at, now()), version = version + 1
where job_id = (
    select job_id from job where state in ('queued', 'running') and due_at <= now() and (lease_until is null or lease_until < now())
    order by due_at, created_at limit 1 for update skip locked)
returning {COLUMNS}
"""
_HOLD = "update job set lease_until = now() + $3 where job_id = $1 and runner = $2 and state = 'running' returning cancelling"
_TAKE = f"""
update job_item set attempts = attempts + 1 where job_id = $1 and seq = any($2) returning {ITEM_COLUMNS}
"""
_DUE = "select seq, attempts from job_item where job_id = $1 and state = 'waiting' and due_at <= now() order by seq limit $2"
_FINISH = """
update job_item i set state = t.state, reason = t.reason, detail = t.detail, result = t.result, subject_ids = t.ids::uuid[],
    due_at = now() + t.delay_s * interval '1 second', finished_at = case when t.state = 'waiting' then null else now() end
from unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::float8[])
    t (seq, state, reason, detail, result, ids, delay_s)
where i.job_id = $1 and i.seq = t.seq and i.state = 'waiting' returning i.state
"""
_COUNT = """
update job set done = done + $2, rejected = rejected + $3, set_apart = set_apart + $4, crashes = 0, version = version + 1
where job_id = $1 returning version
"""
_PAUSE = """
update job set runner = null, lease_until = null, reason = $3, due_at = now() + $4
where job_id = $1 and runner = $2 and state = 'running'
"""


class LeaseLostError(SightlineError):
    """Another process has the job now, or it has ended."""

    code = "lease_lost"


class CancelledJobError(SightlineError):
    """Somebody cancelled the job."""

    code = "cancelled"


async def claim(db: Database, runner: uuid.UUID, lease_s: float) -> "Lease | None":
    """Take a job that waits, or whose runner is silent; None when there is none. Skips what others take at this moment."""
    async with db.transaction() as tx:
        rows = await tx.fetch(_CLAIM, runner, timedelta(seconds=lease_s))
        if not rows:
            return None
        job = job_of(rows[0])
        await tell(tx, "job", [(str(job.job_id), job.version)], collection=job.collection)
    return Lease(db, job, runner, lease_s)


class Lease:
    """A job that this process has. Thread rule: one event loop."""

    def __init__(self, db: Database, job: Job, runner: uuid.UUID, lease_s: float) -> None:
        self.db = db
        self.job = job
        self._runner = runner
        self._lease = timedelta(seconds=lease_s)
        self._taken: list[int] = []

    async def renew(self) -> None:
        """Keep the job. Raises LeaseLostError."""
        with suppress(CancelledJobError):  # whoever writes next stops
            await self._hold(self.db)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Database]:
        """Open a transaction in which nobody else has the job. Raises LeaseLostError, CancelledJobError before anything is written."""
        async with self.db.transaction() as tx:
            await tx.fetch(LOCK_NAMES.format(shared="_shared"))
            await self._hold(tx)
            yield tx

    async def add_items(self, items: Sequence[NewItem]) -> None:
        """Write down what is to do, all or none."""
        async with self.writing() as tx:
            for first in range(0, len(items), LIST_AT_A_TIME):
                some = items[first : first + LIST_AT_A_TIME]
                await tx.execute(
                    "insert into job_item (job_id, seq, input, subject) select $1, * from unnest($2::int[], $3::jsonb[], $4::text[])",
                    self.job.job_id,
                    list(range(first, first + len(some))),
                    [dict(item.input) for item in some],
                    [item.subject for item in some],
                )
            rows = await tx.fetch(
                "update job set listed = true, total = $2, crashes = 0, version = version + 1 where job_id = $1 returning version",
                self.job.job_id,
                len(items),
            )
            await self._tell(tx, rows[0]["version"])

    async def take(self, limit: int, *, most: int) -> list[Item]:
        """Take the next items; what took a process down before comes in ever smaller batches, and is set apart after ``most`` tries."""
        async with self.writing() as tx:
            due = await tx.fetch(_DUE, self.job.job_id, limit)
            if not due:
                self._taken = []
                return []
            tried = int(due[0]["attempts"])
            wanted = [row["seq"] for row in due if row["attempts"] == tried][: max(1, limit // NARROWING**tried)]
            rows = await tx.fetch(_TAKE, self.job.job_id, wanted)
            items = sorted((item_of(tx, self.job.job_id, row) for row in rows), key=lambda item: item.seq)
            dead = [item for item in items if item.attempts > most]
            self._taken = [item.seq for item in items if item.attempts <= most]
            if dead:
                words = f"the process ended {most} times while this was looked at"
                await self.record(tx, [Done(seq=item.seq, state="set_apart", reason="crash", detail=words) for item in dead])
        alive = [item for item in items if item.attempts <= most]
        return alive or await self.take(limit, most=most)

    async def finish(self, results: Sequence[Done]) -> None:
        """Write down what became of items."""
        async with self.writing() as tx:
            await self.record(tx, results)

    async def record(self, tx: Database, results: Sequence[Done]) -> None:
        """Do the same inside a transaction of ``writing``, last in it."""
        results = await _without_erased(tx, results)
        vault, job_id = tx.vault, self.job.job_id
        rows = await tx.fetch(
            _FINISH,
            job_id,
            [one.seq for one in results],
            [one.state for one in results],
            [one.reason for one in results],
            [one.detail for one in results],
            [
                None if one.result is None else vault.seal(msgspec.json.encode(one.result), label=result_label(job_id, one.seq))
                for one in results
            ],
            ["{" + ",".join(sorted({str(uuid.UUID(key)) for key in one.subject_ids})) + "}" for one in results],
            [one.delay_s for one in results],
        )
        states = [row["state"] for row in rows]
        counts = [states.count(state) for state in ("done", "rejected", "set_apart")]
        version = (await tx.fetch(_COUNT, job_id, *counts))[0]["version"]
        self._taken = [seq for seq in self._taken if seq not in {one.seq for one in results}]
        await self._tell(tx, version)

    async def end(self) -> JobState | None:
        """End the job when nothing waits; None when items wait for their next try: the job is given back until then."""
        async with self.writing() as tx:
            job = job_of((await tx.fetch(f"select {COLUMNS} from job where job_id = $1", self.job.job_id))[0])
            left = await tx.fetch("select min(due_at) as due from job_item where job_id = $1 and state = 'waiting'", job.job_id)
            if left[0]["due"] is not None:
                await tx.execute(
                    "update job set runner = null, lease_until = null, due_at = $2 where job_id = $1", job.job_id, left[0]["due"]
                )
                return None
            reason = "" if job.total else "nothing to do was found; see docs/api/jobs.md for what may lie where"
            await self._ended(tx, final_state(job), reason)
        return final_state(job)

    async def close(self, state: JobState, reason: str) -> None:
        """End the job as it is, unless another process has it."""
        async with self.db.transaction() as tx:
            rows = await tx.fetch("select from job where job_id = $1 and runner = $2 for update", self.job.job_id, self._runner)
            if rows:
                await self._ended(tx, state, reason)

    async def pause(self, delay_s: float, reason: str = "") -> None:
        """Give the job back for a while; the tries of what was taken do not count, for it is not their fault."""
        async with self.db.transaction() as tx:
            if await tx.execute(_PAUSE, self.job.job_id, self._runner, reason, timedelta(seconds=delay_s)):
                await tx.execute(
                    "update job_item set attempts = greatest(0, attempts - 1) where job_id = $1 and state = 'waiting' and seq = any($2)",
                    self.job.job_id,
                    self._taken,
                )

    async def _ended(self, tx: Database, state: JobState, reason: str) -> None:
        version = (await tx.fetch(END, self.job.job_id, state, reason))[0]["version"]
        await self._tell(tx, version)

    async def _hold(self, db: Database) -> None:
        rows = await db.fetch(_HOLD, self.job.job_id, self._runner, self._lease)
        if not rows:
            raise LeaseLostError(f"job {self.job.job_id}: another process has it")
        if rows[0]["cancelling"]:
            raise CancelledJobError(f"job {self.job.job_id}: was cancelled")

    async def _tell(self, tx: Database, version: int) -> None:
        await tell(tx, "job", [(str(self.job.job_id), version)], collection=self.job.collection)


def final_state(job: Job) -> JobState:
    """Return how a job ends whose items are all looked at."""
    if job.total and job.done == job.total:
        return "succeeded"
    return "partial" if job.done else "failed"


async def _without_erased(tx: Database, results: Sequence[Done]) -> list[Done]:
    """Return results without people who were erased while they were being recognized."""
    named = sorted({key for one in results for key in one.subject_ids})
    if not named:
        return list(results)
    rows = await tx.fetch("select subject_id from subject where subject_id = any($1::uuid[])", named)
    gone = set(named) - {str(row["subject_id"]) for row in rows}
    return [without(one, gone) for one in results] if gone else list(results)


def without(done: Done, gone: set[str]) -> Done:
    """Return a result without some subjects: no name, no id, no score of theirs is left."""
    if gone.isdisjoint(done.subject_ids):
        return done
    kept = tuple(key for key in done.subject_ids if key not in gone)
    result = None if done.result is None else stripped(done.result, gone)
    return Done(seq=done.seq, state=done.state, reason=done.reason, detail="", result=result, subject_ids=kept, delay_s=done.delay_s)


def stripped(value: Any, gone: set[str]) -> Any:
    """Return JSON without some subjects: candidates and warnings go; whatever else names one loses all that is of a person."""
    if isinstance(value, list):
        return [stripped(one, gone) for one in value if not _only_names(one, gone)]
    if not isinstance(value, dict):
        return value
    named = value.get("subject_id") in gone
    best: dict[str, Any] = next(iter(value.get("candidates") or ()), {})
    bare = {key: None if named and key in _PERSONAL else stripped(one, gone) for key, one in value.items()}
    if value.get("outcome") == "subject" and (named or best.get("subject_id") in gone):
        bare |= {"outcome": "unclear", "reason": "erased"}
    return bare


_PERSONAL: Final = frozenset(("subject_id", "subject", "name", "reference_id", "score", "external_id"))


def _only_names(value: Any, gone: set[str]) -> bool:
    """Tell whether this is a candidate or a warning, of one of these."""
    return isinstance(value, dict) and ("rank" in value or "kind" in value) and value.get("subject_id") in gone
