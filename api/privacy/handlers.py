"""Receipts of erasures, and how long data is kept."""

from datetime import timedelta

from aiohttp import web

from api.errors import UnprocessableError
from api.gallery.models import ReceiptView
from api.principal import principal
from api.privacy.models import DataClassView, ErasurePage, ErasureQuery, RetentionView
from api.route import answer
from api.services import services
from api.uploads import read_query
from core.errors import NotFoundError, UsageError
from enrollment.erasing import ErasureStore
from sightings.cursor import Cursor
from sightings.record import parse_id
from sightings.retention import data_classes, kept_now


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
    try:
        behind = Cursor.decode(query.cursor) if query.cursor else None
    except UsageError as err:
        raise UnprocessableError(str(err)) from err
    found, more = await ErasureStore(services(request).db).query(
        collections=principal(request).collections, limit=query.limit, before=(behind.at, behind.row_id) if behind else None
    )
    last = parse_id(found[-1].receipt_id) if more else None
    following = Cursor(found[-1].erased_at, last).encode() if last else None
    return answer(ErasurePage(erasures=[ReceiptView.of(one) for one in found], next_cursor=following))


async def get_erasure(request: web.Request) -> web.Response:
    """Return one receipt."""
    receipt_id = parse_id(request.match_info["receipt_id"])
    if receipt_id is None:
        raise NotFoundError(f"receipt {request.match_info['receipt_id'][:64]!r}: ids are UUIDs")
    receipt = await ErasureStore(services(request).db).get(str(receipt_id), collections=principal(request).collections)
    return answer(ReceiptView.of(receipt))
