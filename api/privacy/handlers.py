"""Receipts of erasures, and how long data is kept."""

import asyncio
from datetime import timedelta

from aiohttp import web

from api.errors import sensible
from api.gallery.asked import asked_subject
from api.gallery.models import ReceiptView
from api.notes import note
from api.principal import principal
from api.privacy.export import Sources, subject_zip
from api.privacy.models import DataClassView, ErasurePage, ErasureQuery, RetentionView
from api.route import answer
from api.services import services
from api.uploads import path_id, read_query
from enrollment.erasing import ErasureStore
from sightings.cursor import Cursor
from sightings.record import parse_id
from sightings.retention import data_classes, kept_now

WRITE_S = 30.0  # a client that takes nothing for so long has left


async def export_subject(request: web.Request) -> web.StreamResponse:
    """Send everything that is kept of a subject as a zip."""
    behind, subject = services(request), await asked_subject(request)
    sources = Sources(db=behind.db, gallery=behind.gallery, sightings=behind.sightings, still=behind.still)
    headers = {"Content-Type": "application/zip", "Content-Disposition": f'attachment; filename="subject-{subject.subject_id}.zip"'}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    sent = 0
    async for piece in subject_zip(sources, subject):
        async with asyncio.timeout(WRITE_S):
            await response.write(piece)
        sent += len(piece)
    await response.write_eof()
    note(request, bytes=sent)
    return response


async def get_retention(request: web.Request) -> web.Response:
    """Return how long each class of data is kept, and its oldest row."""
    behind = services(request)
    views = []
    for now in await kept_now(behind.db, data_classes(behind.settings)):
        days = None if now.of.keep is None else round(now.of.keep / timedelta(days=1), 3)
        views.append(
            DataClassView(name=now.of.name, keep_days=days, counted_from=now.of.counted_from, oldest_at=now.oldest_at, overdue=now.overdue)
        )
    return answer(RetentionView(classes=views))


async def list_erasures(request: web.Request) -> web.Response:
    """Return a page of receipts."""
    query = read_query(request, ErasureQuery)
    with sensible():
        behind = Cursor.decode(query.cursor) if query.cursor else None
    found, more = await ErasureStore(services(request).db).query(
        collections=principal(request).collections, limit=query.limit, before=(behind.at, behind.row_id) if behind else None
    )
    last = parse_id(found[-1].receipt_id) if more else None
    following = Cursor(found[-1].erased_at, last).encode() if last else None
    return answer(ErasurePage(erasures=[ReceiptView.of(one) for one in found], next_cursor=following))


async def get_erasure(request: web.Request) -> web.Response:
    """Return one receipt."""
    receipt_id = path_id(request, "receipt_id", "receipt")
    receipt = await ErasureStore(services(request).db).get(receipt_id, collections=principal(request).collections)
    return answer(ReceiptView.of(receipt))
