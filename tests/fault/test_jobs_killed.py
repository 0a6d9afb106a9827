"""kill -9 in the middle of an import: another process goes on, every row is enrolled once, and the report says so."""

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api.jobs.record import Item, Job
from api.jobs.store import JobStore, NewJob
from api.storage.store import UploadStore
from core.adapters.object_store import open_object_store
from core.ports import Database
from core.settings import StorageSettings
from tests.builders.jobs import npz, once

ROOT = Path(__file__).parents[2]
LEASE_S = 1.0


@asynccontextmanager
async def runner_process(data_dir: Path) -> AsyncIterator[tuple[subprocess.Popen[str], uuid.UUID]]:
    """A process that runs jobs; killed at the end."""
    command = [sys.executable, "-m", "tests.builders.job_process", str(data_dir), str(LEASE_S)]
    with subprocess.Popen(  # noqa: ASYNC220 - it is only started here
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process, await asyncio.to_thread(_runner_id, process)
        finally:
            process.kill()


def _runner_id(process: subprocess.Popen[str]) -> uuid.UUID:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("runner "):
            return uuid.UUID(line.split()[1])
    raise AssertionError("the process ended")


async def until(db: Database, job_id: uuid.UUID, what: Callable[[Job], bool], *, seconds: float = 200) -> Job:
    """Wait until a job is so."""
    deadline = time.monotonic() + seconds
    while not what(job := await JobStore(db).get(job_id, collections=None)):
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.002)
    return job


async def until_in_hand(db: Database, job_id: uuid.UUID) -> None:
    """Wait until a batch is taken, or all is over."""
    sql = "select from job_item where job_id = $1 and state = 'waiting' and attempts > 0 limit 1"
    while not await db.fetch(sql, job_id) and (await JobStore(db).get(job_id, collections=None)).finished_at is None:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def until_taken_up(db: Database, job_id: uuid.UUID, running: Collection[uuid.UUID]) -> uuid.UUID | None:
    """Return who has the job once it is not the one that was killed before; None when all is over."""
    while True:
        (row,) = await db.fetch("select runner, finished_at from job where job_id = $1", job_id)
        if row["finished_at"] is not None or row["runner"] in running:
            return None if row["finished_at"] is not None else row["runner"]
        await asyncio.sleep(0.002)


async def make_import(db: Database, data_dir: Path, data: bytes, **params: str) -> uuid.UUID:
    """Upload a file and make the job that imports it."""
    objects = open_object_store(StorageSettings(), data_dir=data_dir, vault=db.vault)
    uploads = UploadStore(db, objects)
    upload = await uploads.create(actor="test", name="file", sha256=None, expires_s=60)
    await uploads.receive(upload, once(data), max_bytes=1 << 30)
    given = {"upload_id": str(upload.upload_id), **params}
    job = await JobStore(db).create(NewJob(kind="import", collection="default", params=given, uploads=[upload.upload_id], actor="test"))
    return job.job_id


async def every(db: Database, job_id: uuid.UUID) -> list[Item]:
    return [item async for item in JobStore(db).every_item(job_id)]


async def check_once(db: Database, job_id: uuid.UUID, count: int) -> None:
    """Every row is enrolled, once, as the report says; generations have no gap."""
    items = await every(db, job_id)
    assert [item.seq for item in items] == list(range(count))
    assert {(item.result or {})["status"] for item in items} == {"enrolled"}
    assert len({(item.result or {})["reference_id"] for item in items}) == count
    (row,) = await db.fetch(
        "select (select count(*) from reference) as refs, (select count(*) from subject) as subjects, "
        "(select count(*) from gallery_change) as changes, (select generation from gallery_generation) as generation"
    )
    assert row == {"refs": count, "subjects": count, "changes": count, "generation": count}


async def import_with_kills(db: Database, data_dir: Path, count: int, kill_at: list[int]) -> Job:
    """Import generated embeddings while two processes run, and kill whichever has the job, each time that so many are done."""
    job_id = await make_import(db, data_dir, npz(count), format="embeddings")
    running = {}
    stack = []
    try:
        for _ in range(2):
            stack.append(context := runner_process(data_dir))
            process, runner_id = await context.__aenter__()
            running[runner_id] = process
        for done in kill_at:
            await until(db, job_id, lambda job, done=done: job.done >= done)  # type: ignore[misc]
            await until_in_hand(db, job_id)
            if (runner := await until_taken_up(db, job_id, running)) is None:
                break
            running.pop(runner).kill()
            if done == kill_at[-1]:
                break
            stack.append(context := runner_process(data_dir))
            process, runner_id = await context.__aenter__()
            running[runner_id] = process
        return await until(db, job_id, lambda job: job.finished_at is not None)
    finally:
        for context in stack:
            await context.__aexit__(None, None, None)


@pytest.mark.timeout(300)
async def test_another_process_goes_on_with_a_killed_import(db: Database, database_dir: Path) -> None:
    job = await import_with_kills(db, database_dir, 1500, [1])
    assert (job.state, job.done) == ("succeeded", 1500)
    await check_once(db, job.job_id, 1500)


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_ten_thousand_references_survive_five_kills(db: Database, database_dir: Path) -> None:
    began = time.monotonic()
    job = await import_with_kills(db, database_dir, 10_000, [1, 2000, 4000, 6000, 8000])
    assert (job.state, job.done) == ("succeeded", 10_000)
    await check_once(db, job.job_id, 10_000)
    assert time.monotonic() - began < 240
