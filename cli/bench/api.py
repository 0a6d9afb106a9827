"""``sightline bench api``: the HTTP API under load: searches, photos, the past; against the same search in this process."""

import asyncio
import base64
import contextlib
import io
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from cli.bench import wrk
from cli.bench.imports import measure as measure_imports
from cli.bench.load import Load, Send, closed_loop, open_loop
from cli.bench.people import REFERENCES_PER_SUBJECT
from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console, run_async
from core.settings import Settings, child_environment

if TYPE_CHECKING:
    import aiohttp

    from core.types import F32

SEED = 1
K = 5
CLIENTS = 8  # in closed loops: enough to keep two cores busy, few enough that none waits long
SPARE_LOAD = 0.7  # of the closed loop's rate, in the open loop: a server that is not at its end
READY_TIMEOUT_S = 1800.0  # a record of a million is read in
POLL_S = 0.5
STOP_TIMEOUT_S = 30.0
PHOTO_PX = (1280, 800)
DIRECT_PROBES = 500
WARM_S = 5.0
ENROLLED = ("barack-obama-2012.jpg", "joe-biden-2010.jpg")
"""Pictures of two people of whom other photos are enrolled."""
STRANGERS = ("grace-hopper.jpg", "eileen-collins.jpg")
BOUNDARY = "sightline-bench"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("api")(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What to search for."""

    model: str
    enrolled: "F32"
    seen: "F32"


def run(
    ctx: typer.Context,
    subjects: Annotated[int, typer.Option(min=1000, max=10_000_000, help="Subjects in the gallery, three references each.")] = 100_000,
    sightings: Annotated[int, typer.Option(min=1000, max=100_000_000, help="Sightings in the record.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=1.0, max=3600.0, help="Measured time of each part.")] = 10.0,
    as_json: bool = JSON_OPTION,
) -> None:
    """Search a large gallery and a long record through the HTTP API of the standalone platform, which runs in a process of its own."""
    settings: Settings = ctx.obj.settings()
    figures = run_async(_measure(settings, subjects, sightings, seconds, lambda text: console().print(text, style="dim")))
    figures |= run_async(measure_imports(photos=0))
    emit_report(
        "api",
        settings={
            "subjects": subjects,
            "references": subjects * REFERENCES_PER_SUBJECT,
            "sightings": sightings,
            "seconds": seconds,
            "clients": CLIENTS,
            "load_generators": ["closed and open loops of asyncio", "wrk" if wrk.installed() else "wrk is not installed"],
            "photo": "{}x{} JPEG, two faces".format(*PHOTO_PX),
            "model_set": settings.models.set,
        },
        figures=figures,
        as_json=as_json,
    )


async def _measure(settings: Settings, subjects: int, sightings: int, seconds: float, say: Callable[[str], None]) -> Figures:
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        here = settings.model_copy(update={"data_dir": Path(folder)})
        began_s = time.perf_counter()
        probes = await _fill(here, subjects * REFERENCES_PER_SUBJECT, sightings)
        say(f"stored in {time.perf_counter() - began_s:.0f} s")
        async with _serving(here) as server:
            began_s = time.perf_counter()
            await _until_loaded(server.http, probes)
            loaded_s = time.perf_counter() - began_s
            say(f"read by the server in {loaded_s:.0f} s")
            figures = {
                **await _searches(server, probes, subjects, seconds),
                **await _photos(server, seconds),
                **await _history(server.http, probes, seconds),
                "history_load_per_second": (round(sightings / loaded_s), "1/s"),
            }
        async with _serving(here, one_core=True, SIGHTLINE_HISTORY__MAX_SIGHTINGS="1000") as server:
            await _until_ready(server.http)
            return figures | await _recognition(server.http, seconds)


async def _fill(settings: Settings, references: int, sightings: int) -> Probes:
    """Write gallery and record into the database."""
    from cli.bench.gallery import store_gallery
    from cli.bench.history import store_sightings
    from cli.database import open_database_for
    from core.models.registry import Registry

    registry = Registry.load(settings.data_dir)
    spec = registry.model(registry.model_set(settings.models.set).embedder)
    assert spec.dimensions is not None  # of an embedder
    async with open_database_for(settings) as db:
        enrolled = await store_gallery(db, references, spec.dimensions, seed=SEED, model=spec.name)
        seen = await store_sightings(db, sightings, spec.dimensions, model=spec.name, seed=SEED + 1)
        await db.execute("vacuum")  # else the server does it while it is measured
    return Probes(model=spec.name, enrolled=enrolled, seen=seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """A platform that runs."""

    http: "aiohttp.ClientSession"
    url: str
    token: str

    async def by_wrk(self, name: str, path: str, bodies: Sequence[bytes], content_type: str, seconds: float) -> Figures:
        """Return what wrk measures on a path; nothing where it is not installed."""
        if not wrk.installed():
            return {}
        url = self.url + path
        got = await wrk.generate(url, bodies, content_type=content_type, token=self.token, clients=CLIENTS, seconds=seconds)
        times = {f"{name}_wrk_p{percent}": (round(getattr(got, f"p{percent}_ms"), 1), "ms") for percent in (50, 95, 99)}
        return {f"{name}_wrk_per_second": (round(got.per_second, 1), "1/s"), **times}


@asynccontextmanager
async def _serving(settings: Settings, *, one_core: bool = False, **environment: str) -> AsyncIterator[_Server]:
    """Run the platform in a process of its own, on one core where that is asked for and the system can; yield it, with a client."""
    import aiohttp

    from cli.services.processes import free_ports

    token, (port,) = secrets.token_urlsafe(24), free_ports(1)
    variables = child_environment(
        SIGHTLINE_API__TOKEN=token,
        SIGHTLINE_MODELS__SET=settings.models.set,
        SIGHTLINE_LOG_LEVEL="warning",
        SIGHTLINE_HISTORY__PERSONS="false",
        **environment,
    )
    arguments = ("-m", "cli.main", "--data", str(settings.data_dir), "run", "--port", str(port), "--json")
    with _on_one_core() if one_core else contextlib.nullcontext():
        child = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=variables, stdout=asyncio.subprocess.DEVNULL)
    try:
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {token}"}
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as http:
            yield _Server(http=http, url=url, token=token)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.wait()
        except TimeoutError:
            child.kill()


async def _until_loaded(http: "aiohttp.ClientSession", probes: Probes) -> None:
    """Wait until the server has read gallery and record."""
    import aiohttp

    from cli.bench.history import history_body

    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with http.post("/v1/history/search/embedding", json=history_body(probes.seen[0], probes.model, 0)) as response:
                    if response.status == 200 and (await response.json())["complete"]:
                        return
            await asyncio.sleep(POLL_S)


async def _until_ready(http: "aiohttp.ClientSession") -> None:
    import aiohttp

    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with http.get("/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(POLL_S)


async def _searches(server: _Server, probes: Probes, subjects: int, seconds: float) -> Figures:
    """Search by embedding, and search the same gallery in this process."""
    path, json_type = "/v1/search/embedding", "application/json"
    bodies = [
        json.dumps({"embedding": base64.b64encode(row.astype("<f4").tobytes()).decode(), "model": probes.model, "k": K}).encode()
        for row in probes.enrolled
    ]

    async def send(number: int) -> None:
        async with server.http.post(path, data=bodies[number % len(bodies)], headers={"Content-Type": json_type}) as response:
            answer = await response.json()
        if response.status != 200 or len(answer["candidates"]) != K:
            raise AssertionError(f"search: {response.status}: {str(answer)[:300]}")

    await closed_loop(send, clients=CLIENTS, seconds=min(2.0, seconds))
    closed = await closed_loop(send, clients=CLIENTS, seconds=seconds)
    alone = await closed_loop(send, clients=1, seconds=seconds)
    opened = await open_loop(send, per_second=SPARE_LOAD * closed.per_second, seconds=seconds)
    direct_ms = await asyncio.to_thread(_direct, subjects, probes)
    return {
        "search_embedding_per_second": (round(closed.per_second, 1), "1/s"),
        **_percentiles("search_embedding", alone),
        **_percentiles("search_embedding_loaded", closed),
        **_percentiles("search_embedding_open", opened),
        **await server.by_wrk("search_embedding", path, bodies, json_type, seconds),
        "direct_p50": (round(float(np.median(direct_ms)), 2), "ms"),
        "overhead_ratio": (round(float(np.mean(alone.latencies_ms)) / float(np.mean(direct_ms)), 2), "x"),
    }


def _direct(subjects: int, probes: Probes) -> list[float]:
    """Return the time of single searches of the same references by FAISS's codes and exact cosines, called directly, ms."""
    from cli.bench.gallery import pieces
    from matcher.faiss_index import FaissIndex

    dimensions = probes.enrolled.shape[1]
    index = FaissIndex(dimensions)
    for piece in pieces(subjects * REFERENCES_PER_SUBJECT, dimensions, seed=SEED):
        index.add(piece.people.references)
    times = []
    for row in probes.enrolled[:DIRECT_PROBES]:
        began_s = time.perf_counter()
        index.search(row[None], K * REFERENCES_PER_SUBJECT)
        times.append((time.perf_counter() - began_s) * 1e3)
    return times


async def _photos(server: _Server, seconds: float) -> Figures:
    """Search by photo on all cores."""
    photo = two_faces()
    send = _sender(server.http, "/v1/search", photo)
    searched = await closed_loop(send, clients=1, seconds=seconds)
    busy = await closed_loop(send, clients=CLIENTS, seconds=seconds)
    return {
        "search_photo_per_second": (round(busy.per_second, 1), "1/s"),
        **_percentiles("search_photo", searched),
        **_percentiles("search_photo_loaded", busy),
        **await server.by_wrk("search_photo", "/v1/search", [_form(_with_comment(photo, wrk.MARK.encode()))], FORM_TYPE, seconds),
    }


async def _recognition(http: "aiohttp.ClientSession", seconds: float) -> Figures:
    """Recognize two people who are enrolled, and two strangers, whom every reference has to be compared with."""
    await _enrol_both(http)
    figures: Figures = {}
    for name, photo in (("recognize", two_faces()), ("recognize_strangers", two_faces(STRANGERS))):
        send = _sender(http, "/v1/recognize", photo)
        await closed_loop(send, clients=1, seconds=min(WARM_S, seconds))
        figures |= _percentiles(name, await closed_loop(send, clients=1, seconds=seconds))
    return figures


async def _enrol_both(http: "aiohttp.ClientSession") -> None:
    import aiohttp

    for name in ("barack-obama-2009", "joe-biden-2010"):
        async with http.post("/v1/subjects", json={"name": name}) as response:
            subject = (await response.json())["subject_id"]
        form = aiohttp.FormData()
        photo = (files("cli") / "assets" / "people" / "enrol" / f"{name}.jpg").read_bytes()
        form.add_field("photo", photo, filename=f"{name}.jpg", content_type="image/jpeg")
        async with http.post(f"/v1/subjects/{subject}/references", data=form) as response:
            if response.status >= 300:
                raise AssertionError(f"enrolment: {response.status}: {(await response.text())[:300]}")


def _sender(http: "aiohttp.ClientSession", path: str, photo: bytes) -> Send:
    async def send(_number: int) -> None:
        import aiohttp

        form = aiohttp.FormData()
        form.add_field("photo", _another(photo), filename="photo.jpg", content_type="image/jpeg")
        async with http.post(path, data=form) as response:
            answer = await response.json()
        if response.status != 200 or len(answer["faces"]) != 2 or answer.get("cached"):
            raise AssertionError(f"{path}: {response.status}: {str(answer)[:300]}")

    return send


def _another(photo: bytes) -> bytes:
    """Return the same picture as another file: with a comment of its own, so that no cache knows it."""
    return _with_comment(photo, secrets.token_bytes(16))


def _with_comment(photo: bytes, comment: bytes) -> bytes:
    return photo[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + photo[2:]


def _form(photo: bytes) -> bytes:
    """Return a photo as the form that /v1/search takes; its type is FORM_TYPE."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def two_faces(names: tuple[str, str] = ENROLLED) -> bytes:
    """Return a JPEG of one megapixel with two people on it, from the shipped pictures."""
    import PIL.Image

    people = files("cli") / "assets" / "people" / "figures"
    canvas = PIL.Image.new("RGB", PHOTO_PX, (90, 110, 130))
    for place, name in enumerate(names):
        with PIL.Image.open(io.BytesIO((people / name).read_bytes())) as figure:
            height = PHOTO_PX[1] - 100
            width = round(figure.width * height / figure.height)
            canvas.paste(figure.resize((width, height)), (60 + place * PHOTO_PX[0] // 2, 50))
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=90)
    return out.getvalue()


@contextlib.contextmanager
def _on_one_core() -> Iterator[None]:
    """Have processes that start inside the block run on the last core alone, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _history(http: "aiohttp.ClientSession", probes: Probes, seconds: float) -> Figures:
    from cli.bench.history import measure_history

    alone = await measure_history(http, probes.seen, model=probes.model, clients=1, seconds=seconds)
    busy = await measure_history(http, probes.seen, model=probes.model, clients=CLIENTS, seconds=seconds)
    return {**_percentiles("history_search", alone), **_percentiles("history_search_loaded", busy)}


def _percentiles(name: str, load: Load) -> Figures:
    return {f"{name}_p{percent}": (round(load.percentile(percent), 2), "ms") for percent in (50, 95, 99)}
