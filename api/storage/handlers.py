"""Uploads: asked for with credentials, sent without."""

import asyncio
import uuid
from collections.abc import AsyncIterator

from aiohttp import web

from api.errors import MediaTypeError, TooLargeError
from api.notes import note
from api.principal import principal
from api.route import answer
from api.services import services
from api.storage.models import NewUpload, UploadTarget, UploadView
from api.storage.store import UploadStore, check_token, make_token
from api.uploads import path_id, read_json
from core.errors import UsageError

CHUNK_S = 30.0  # a client that sends nothing for so long is gone
CHUNK_BYTES = 256 << 10
TOKEN_HEADER = "X-Upload-Token"


async def create_upload(request: web.Request) -> web.Response:
    """Say where a file may be sent."""
    body = await read_json(request, NewUpload)
    behind = services(request)
    storage = behind.settings.storage
    upload = await uploads(request).create(
        actor=principal(request).actor,
        name=body.name,
        sha256=bytes.fromhex(body.sha256) if body.sha256 else None,
        expires_s=storage.upload_expires_s,
    )
    note(request, upload_id=str(upload.upload_id))
    url = await behind.objects.presigned_put(upload.key, storage.upload_expires_s)
    own = {TOKEN_HEADER: make_token(behind.db.vault, upload), "Content-Type": "application/octet-stream"}
    return answer(
        UploadTarget(
            upload_id=upload.upload_id,
            url=url or f"/v1/uploads/{upload.upload_id}/content",
            headers={} if url else own,
            expires_at=upload.expires_at,
            max_bytes=storage.max_upload_bytes,
        ),
        status=201,
    )


async def put_upload_content(request: web.Request) -> web.Response:
    """Take the content of an upload, straight to storage."""
    upload_id = _upload_id(request)
    check_token(services(request).db.vault, upload_id, request.headers.get(TOKEN_HEADER, ""))
    limit = services(request).settings.storage.max_upload_bytes
    if request.content_type != "application/octet-stream":
        raise MediaTypeError(f"expected Content-Type application/octet-stream, got {request.content_type[:80]}")
    if (request.content_length or 0) > limit:
        raise TooLargeError(f"the upload has {request.content_length} bytes, at most {limit} are taken (storage.max_upload_bytes)")
    store = uploads(request)
    upload = await store.receive(await store.get(upload_id, actor=None), _chunks(request), max_bytes=limit)
    services(request).metrics.upload_bytes.inc(upload.size_bytes or 0)
    return answer(UploadView.of(upload))


async def get_upload(request: web.Request) -> web.Response:
    """Say whether an upload is there."""
    return answer(UploadView.of(await uploads(request).get(_upload_id(request), actor=principal(request).actor)))


async def delete_upload(request: web.Request) -> web.Response:
    """Erase an upload."""
    upload = await uploads(request).get(_upload_id(request), actor=principal(request).actor)
    await uploads(request).delete(upload.upload_id)
    note(request, upload_id=str(upload.upload_id))
    return answer(UploadView.of(upload))


def uploads(request: web.Request) -> UploadStore:
    """Return the store of uploads."""
    return UploadStore(services(request).db, services(request).objects)


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(CHUNK_S):
                chunk = await request.content.read(CHUNK_BYTES)
        except TimeoutError as err:
            raise UsageError(f"the upload stopped: nothing came for {CHUNK_S:.0f} s; send it again") from err
        if not chunk:
            return
        yield chunk


def _upload_id(request: web.Request) -> uuid.UUID:
    return uuid.UUID(path_id(request, "upload_id", "upload"))
