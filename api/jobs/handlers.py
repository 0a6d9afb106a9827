"""Jobs over HTTP."""

import uuid
from collections.abc import Sequence

from aiohttp import web

from api.cursor import decode_name, not_ours, page_by_name
from api.errors import UnprocessableError
from api.jobs.models import ItemPage, ItemQuery, ItemView, JobPage, JobQuery, JobView, NewImport, NewRecognition, RetryRequest
from api.jobs.record import Job
from api.jobs.report import CSV_COLUMNS, csv_item, csv_line, json_line
from api.jobs.store import JobStore, NewJob
from api.notes import note
from api.principal import principal
from api.route import answer
from api.services import services
from api.storage.handlers import uploads
from api.uploads import path_id, read_json, read_query
from core.outbound import WEB_SCHEMES, parse_url
from sightings.cursor import Cursor

_MADE_AT = ("/v1/jobs/import", "/v1/jobs/recognize")  # where jobs are made: no ids
_SOURCES = {
    # format -> (what it needs, what it may have beside that)
    "zip": ("upload_id", ()),
    "embeddings": ("upload_id", ("model",)),
    "csv": ("upload_id", ("photos_upload_id", "prefix")),
    "folder": ("prefix", ()),
}


async def create_import(request: web.Request) -> web.Response:
    """Make a job that enrols people."""
    body = await read_json(request, NewImport)
    who = principal(request)
    who.require("subjects.write")
    _check_source(body)
    collection = who.require_collection(body.collection or services(request).settings.recognize.collection)
    needed = [one for one in (body.upload_id, body.photos_upload_id) if one is not None]
    await _stored(request, needed)
    params = body.model_dump(mode="json", exclude_none=True, exclude={"collection", "callback_url", "callback_secret"})
    job = await _store(request).create(
        NewJob(kind="import", collection=collection, params=params, uploads=needed, actor=who.actor, callback=_callback(body))
    )
    return _created(request, job)


async def create_recognition(request: web.Request) -> web.Response:
    """Make a job that says who is on pictures and videos."""
    body = await read_json(request, NewRecognition)
    who = principal(request)
    who.require("recognize")
    if not body.upload_ids and body.zip_upload_id is None and body.prefix is None:
        raise UnprocessableError("upload_ids, zip_upload_id, prefix: give at least one of them")
    collection = who.require_collection(body.collection or services(request).settings.recognize.collection)
    names = await _stored(request, body.upload_ids)
    zipped = [body.zip_upload_id] if body.zip_upload_id else []
    await _stored(request, zipped)
    params = body.model_dump(mode="json", exclude_none=True, exclude={"collection", "callback_url", "callback_secret", "upload_ids"})
    params["named_uploads"] = names
    job = await _store(request).create(
        NewJob(
            kind="recognize",
            collection=collection,
            params=params,
            uploads=[*map(uuid.UUID, names), *zipped],
            actor=who.actor,
            callback=_callback(body),
        )
    )
    return _created(request, job)


async def list_jobs(request: web.Request) -> web.Response:
    """Return a page of jobs."""
    query = read_query(request, JobQuery)
    after = Cursor.decode(query.cursor) if query.cursor else None
    found = await _store(request).page(
        collections=principal(request).collections, kind=query.kind, state=query.state, after=after, limit=query.limit + 1
    )
    page = found[: query.limit]
    following = Cursor(page[-1].created_at, page[-1].job_id).encode() if len(found) > query.limit else None
    return answer(JobPage(jobs=[JobView.of(job) for job in page], next_cursor=following))


async def get_job(request: web.Request) -> web.Response:
    """Return one job."""
    job = await _job(request)
    return answer(JobView.of(job), version=job.version)


async def list_job_items(request: web.Request) -> web.Response:
    """Return a page of a job's items, with what became of them so far."""
    query = read_query(request, ItemQuery)
    job = await _job(request)
    after = _after(query.cursor) if query.cursor else -1
    found = await _store(request).items(job.job_id, state=query.state, after=after, limit=query.limit + 1)
    page, following = page_by_name(found, query.limit, lambda item: f"item {item.seq}")
    note(request, job_id=str(job.job_id), items=len(page))
    return answer(ItemPage(items=[ItemView.of(item) for item in page], next_cursor=following))


async def get_report_csv(request: web.Request) -> web.StreamResponse:
    """Return what became of each item, as a table."""
    job = await _job(request)
    response = _stream(request, job, "text/csv", "csv")
    await response.prepare(request)
    await response.write(csv_line(CSV_COLUMNS))
    async for item in _store(request).every_item(job.job_id):
        await response.write(csv_item(item))
    await response.write_eof()
    return response


async def get_report_jsonl(request: web.Request) -> web.StreamResponse:
    """Return what became of each item, as lines of JSON."""
    job = await _job(request)
    response = _stream(request, job, "application/jsonl", "jsonl")
    await response.prepare(request)
    async for item in _store(request).every_item(job.job_id):
        await response.write(json_line(item))
    await response.write_eof()
    return response


async def cancel_job(request: web.Request) -> web.Response:
    """Stop a job."""
    job = await _job(request)
    note(request, job_id=str(job.job_id))
    job = await _store(request).cancel(job.job_id)
    return answer(JobView.of(job), status=200 if job.finished_at else 202)


async def retry_job(request: web.Request) -> web.Response:
    """Do again what could not be done."""
    body = await read_json(request, RetryRequest)
    job = await _job(request)
    principal(request).require("subjects.write" if job.kind == "import" else "recognize")
    note(request, job_id=str(job.job_id))
    return answer(JobView.of(await _store(request).retry(job.job_id, body.states)), status=202)


def _check_source(body: NewImport) -> None:
    """Refuse fields that the format does not read: none is ignored."""
    needed, also = _SOURCES[body.format]
    if getattr(body, needed) is None:
        raise UnprocessableError(f"{needed}: an import of the format {body.format} needs it")
    for name in ("upload_id", "photos_upload_id", "prefix", "model"):
        if getattr(body, name) is not None and name != needed and name not in also:
            raise UnprocessableError(f"{name}: an import of the format {body.format} reads none")
    if body.format == "csv" and (body.photos_upload_id is None) == (body.prefix is None):
        raise UnprocessableError("photos_upload_id, prefix: a CSV's photos lie in one of them; give one")


async def _stored(request: web.Request, upload_ids: Sequence[uuid.UUID]) -> dict[str, str]:
    """Return {id: name} of uploads of who asks that are there. Raises NotFoundError, UnprocessableError."""
    names: dict[str, str] = {}
    for upload_id in upload_ids:
        upload = await uploads(request).get(upload_id, actor=principal(request).actor)
        if upload.size_bytes is None:
            raise UnprocessableError(f"upload {upload_id}: is not there yet; send it first")
        names[str(upload_id)] = upload.name
    return names


def _callback(body: NewImport | NewRecognition) -> dict[str, str] | None:
    """Return the callback; where it leads is judged when it is made, its form here. Raises AddressRefusedError, UnprocessableError."""
    if (body.callback_url is None) != (body.callback_secret is None):
        raise UnprocessableError("callback_url, callback_secret: give both, or none")
    if body.callback_url is None or body.callback_secret is None:
        return None
    parse_url(body.callback_url, schemes=WEB_SCHEMES)
    return {"url": body.callback_url, "secret": body.callback_secret}


def _created(request: web.Request, job: Job) -> web.Response:
    note(request, job_id=str(job.job_id), kind=job.kind, collection=job.collection)
    response = answer(JobView.of(job), status=202, version=job.version)
    response.headers["Location"] = f"/v1/jobs/{job.job_id}"
    return response


def _stream(request: web.Request, job: Job, content_type: str, suffix: str) -> web.StreamResponse:
    note(request, job_id=str(job.job_id), items=job.total)
    response = web.StreamResponse()
    response.content_type = content_type
    response.charset = "utf-8"
    response.headers["Content-Disposition"] = f'attachment; filename="job-{job.job_id}.{suffix}"'
    return response


def _after(cursor: str) -> int:
    text = decode_name(cursor)
    number = text.removeprefix("item ")
    if number == text or not (number.isascii() and number.isdecimal()) or len(number) > 9:
        raise not_ours()
    return int(number)


def _store(request: web.Request) -> JobStore:
    return JobStore(services(request).db)


async def _job(request: web.Request) -> Job:
    if request.path in _MADE_AT:
        raise web.HTTPMethodNotAllowed(request.method, ["POST"])
    return await _store(request).get(uuid.UUID(path_id(request, "job_id", "job")), collections=principal(request).collections)
