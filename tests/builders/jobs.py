"""Jobs over real stores: painted people for faces, a real shard, objects in memory."""

import io
import uuid
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp.test_utils import TestClient

from api.jobs.imports import ImportWork
from api.jobs.recognition import RecognizeWork
from api.jobs.record import Job
from api.jobs.runner import JobRunner
from api.jobs.store import JobStore
from core.adapters.object_store import open_object_store
from core.metrics import Metrics
from core.ports import Database, ObjectStore
from core.settings import JobSettings, OutboundSettings, Settings, StorageSettings
from core.types import F32
from enrollment.bulk import BulkEnroller
from recognize.still import StillRecognizer
from tests.builders.gallery import calibration, open_enroller, png
from tests.builders.http import ok
from tests.builders.painted import DIMENSIONS, painted

MODEL = "painted"
ANN, BOB = (png(painted({person: (260, 120)}, size_px=120)) for person in (1, 4))
Told = tuple[dict[str, Any], list[dict[str, Any]]]
"""A job and its items, as the API tells them."""


def unit(seed: int) -> F32:
    """A generated embedding."""
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def npz(count: int, *, model: str = MODEL, first: int = 0, **more: Any) -> bytes:
    """A file of generated embeddings, of a person each."""
    rng = np.random.default_rng(first)
    vectors = rng.standard_normal((count, DIMENSIONS)).astype(np.float32)
    out = io.BytesIO()
    np.savez(out, embeddings=vectors, subjects=np.array([f"p{first + n:05d}" for n in range(count)]), model=np.array(model), **more)
    return out.getvalue()


def zipped(**files: bytes) -> bytes:
    """A zip; names with two underscores for a slash."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return out.getvalue()


async def once(data: bytes) -> AsyncIterator[bytes]:
    """Content for ObjectStore.put."""
    yield data


@asynccontextmanager
async def open_runner(
    db: Database,
    data_dir: Path,
    *,
    objects: ObjectStore | None = None,
    still: StillRecognizer | None = None,
    recognizer: Callable[[str], Any] | None = None,
    **settings: Any,
) -> AsyncIterator[JobRunner]:
    """A runner with a painted enroller; ``run_one`` does the next job."""
    hooks = OutboundSettings(allowed_hosts=("127.0.0.1",))
    made = Settings(data_dir=data_dir, jobs=JobSettings(**settings), storage=StorageSettings(url="memory:"), outbound=hooks)
    async with open_enroller(db) as enroller:
        yield JobRunner(
            db=db,
            objects=objects or open_object_store(made.storage, data_dir=data_dir, vault=db.vault),
            works={
                "import": ImportWork(
                    db=db,
                    enroll_all=enroller.enroll_all,
                    bulk=BulkEnroller(matcher=enroller.matcher, calibration=calibration(), model=MODEL),
                    dimensions=DIMENSIONS,
                    await_visible=enroller.await_visible,
                    max_attempts=made.jobs.max_attempts,
                ),
                "recognize": RecognizeWork(
                    still=still,  # type: ignore[arg-type]
                    recognizer=recognizer or _no_video,
                    max_attempts=made.jobs.max_attempts,
                ),
            },
            settings=made,
            metrics=Metrics(),
        )


def _no_video(_: str) -> Any:
    raise AssertionError("this test has no videos")


async def send(client: TestClient[Any, Any], data: bytes, name: str = "file") -> str:
    """Upload a file; return its id."""
    target = await (await client.post("/v1/uploads", json={"name": name})).json()
    response = await client.put(target["url"], data=data, headers=target["headers"])
    assert response.status == 200, await response.text()
    return str(target["upload_id"])


async def finished(db: Database, runner: JobRunner, job_id: str, *, when: Callable[[Job], bool] | None = None) -> Job:
    """Run what is due until a job has ended."""
    store = JobStore(db)
    for _ in range(200):
        await runner.run_one()
        job = await store.get(uuid.UUID(job_id), collections=None)
        if job.finished_at is not None or (when is not None and when(job)):
            return job
        await db.execute("update job set due_at = now(); update job_item set due_at = now() where state = 'waiting'")
    raise AssertionError(f"the job does not end: {job}")


def told(items: Sequence[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    """Return file, state and reason of items as the API gives them."""
    return [(one["file"], one["state"], one["reason"]) for one in items]


async def imported(client: TestClient[Any, Any], db: Database, runner: JobRunner, **body: Any) -> Told:
    """Make an import and do it."""
    return await _done(client, db, runner, "import", body)


async def recognized(client: TestClient[Any, Any], db: Database, runner: JobRunner, **body: Any) -> Told:
    """Make a job of recognition and do it."""
    return await _done(client, db, runner, "recognize", body)


async def _done(client: TestClient[Any, Any], db: Database, runner: JobRunner, kind: str, body: dict[str, Any]) -> Told:
    job = await ok(await client.post(f"/v1/jobs/{kind}", json=body), 202)
    await finished(db, runner, job["job_id"])
    items = (await ok(await client.get(f"/v1/jobs/{job['job_id']}/items?limit=500")))["items"]
    return await ok(await client.get(f"/v1/jobs/{job['job_id']}")), items
