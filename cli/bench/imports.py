"""``sightline bench imports``: how fast a job brings in the references of another system, and photos."""

import asyncio
import io
import shutil
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, run_async
from core.jpeg import encode_jpeg
from core.photo import decode_photo
from core.settings import load_settings

REFERENCES = 10_000
PHOTOS = 40
PEOPLE = files("cli") / "assets" / "people" / "enrol"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def imports(
        references: Annotated[int, typer.Option(min=1, help="Generated embeddings to bring in.")] = REFERENCES,
        photos: Annotated[int, typer.Option(min=0, help="Photos to enrol beside that; 0 = none.")] = PHOTOS,
        as_json: bool = JSON_OPTION,
    ) -> None:
        """Bring references into an empty gallery by jobs."""
        figures = run_async(measure(references, photos))
        emit_report("imports", settings={"references": references, "photos": photos}, figures=figures, as_json=as_json)


async def measure(references: int = REFERENCES, photos: int = PHOTOS) -> Figures:
    """Return rates of imports into an empty gallery of this machine, over the job, its report and the live matcher.

    Returns:
        ``import_per_second`` (embeddings) and, with photos, ``photo_import_per_second``.
    """
    from cli.compose import open_gallery

    folder = Path(tempfile.mkdtemp(prefix="sightline-bench-"))
    try:
        async with open_gallery(load_settings(data_dir=folder)) as gallery:
            rate = await _rate(gallery, _npz(references, gallery.embedder.dimensions, gallery.embedder.model), "embeddings", references)
            figures: Figures = {"import_per_second": (round(rate, 1), "1/s")}
            if photos:
                taken = await _rate(gallery, await asyncio.to_thread(_zip, photos), "zip", photos)
                figures["photo_import_per_second"] = (round(taken, 1), "1/s")
        return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _rate(gallery: Any, data: bytes, kind: str, count: int) -> float:
    """Return items a second, from the job's making to its end."""
    from api.jobs.store import JobStore, NewJob
    from api.storage.store import UploadStore
    from cli.jobs import job_runner

    runner = job_runner(gallery)
    uploads = UploadStore(gallery.db, runner.objects)
    upload = await uploads.create(actor="bench", name="bench", sha256=None, expires_s=3600)
    await uploads.receive(upload, _once(data), max_bytes=len(data))
    began = time.perf_counter()
    params = {"format": kind, "upload_id": str(upload.upload_id), "allow_lookalike": kind == "zip"}
    job = await JobStore(gallery.db).create(
        NewJob(kind="import", collection="bench", params=params, uploads=[upload.upload_id], actor="bench")
    )
    while (await JobStore(gallery.db).get(job.job_id, collections=None)).finished_at is None:
        await runner.run_one()
    seconds = time.perf_counter() - began
    ended = await JobStore(gallery.db).get(job.job_id, collections=None)
    if kind == "embeddings" and ended.done != count:
        raise RuntimeError(f"only {ended.done} of {count} were enrolled: {ended.state} {ended.reason}")
    return count / seconds


def _npz(count: int, dimensions: int, model: str) -> bytes:
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    vectors = rng.standard_normal((count, dimensions)).astype(np.float32)
    np.savez(out, embeddings=vectors, subjects=np.array([f"person {n}" for n in range(count)]), model=np.array(model))
    return out.getvalue()


def _zip(count: int) -> bytes:
    """Return a zip of so many photos of two people, each compressed another way."""
    sources = [decode_photo(path.read_bytes(), name=path.name) for path in PEOPLE.iterdir() if path.name.endswith("jpg")]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(count):
            photo = encode_jpeg(sources[number % len(sources)], 60 + number % 40)
            archive.writestr(f"person-{number}/photo.jpg", photo)
    return out.getvalue()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
