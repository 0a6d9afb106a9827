"""Galleries of people."""

from aiohttp import web

from api.cursor import decode_name, page_by_name
from api.errors import sensible
from api.gallery.models import (
    CollectionErased,
    CollectionPage,
    CollectionPatch,
    CollectionQuery,
    CollectionView,
    EraseCollectionQuery,
    NewCollection,
    ReceiptView,
)
from api.notes import note
from api.principal import principal
from api.route import answer, expected_version
from api.services import services, visible
from api.uploads import read_json, read_query
from core.errors import ConflictError, NotFoundError
from enrollment.collections import Collection, CollectionChange, CollectionStore
from enrollment.record import Receipt

ERASED_AT_ONCE = 500  # people a request erases: some seconds


async def list_collections(request: web.Request) -> web.Response:
    """Return a page of collections."""
    query = read_query(request, CollectionQuery)
    granted = principal(request).collections
    after = decode_name(query.cursor)
    found = await _store(request).page(None if granted is None else sorted(granted), after=after, limit=query.limit + 1)
    page, following = page_by_name(found, query.limit, lambda collection: collection.name)
    return answer(CollectionPage(collections=[CollectionView.of(one) for one in page], next_cursor=following))


async def create_collection(request: web.Request) -> web.Response:
    """Make a collection."""
    body = await read_json(request, NewCollection)
    name = principal(request).require_collection(body.name)
    with sensible():
        made = await _store(request).add(name, description=body.description, attributes=body.attributes)
    note(request, collection=name)
    response = _shown(made, status=201)
    response.headers["Location"] = f"/v1/collections/{name}"
    return response


async def get_collection(request: web.Request) -> web.Response:
    """Return one collection."""
    return _shown(await _store(request).get(_name(request)))


async def update_collection(request: web.Request) -> web.Response:
    """Change what is recorded of a collection."""
    body = await read_json(request, CollectionPatch)
    change: CollectionChange = {}
    if "description" in body.model_fields_set:
        change["description"] = body.description
    if "attributes" in body.model_fields_set:
        change["attributes"] = body.attributes
    name, version = _name(request), expected_version(request)
    with sensible():
        changed = await _store(request).change(name, change, version=version)
    note(request, collection=name, fields=sorted(change))
    return _shown(changed)


async def erase_collection(request: web.Request) -> web.Response:
    """Delete a collection; with everybody in it where that is asked for."""
    query = read_query(request, EraseCollectionQuery)
    name = _name(request)
    receipts, removed = await take_away(request, name, erase=query.erase)
    note(request, collection=name, receipts=[one.receipt_id for one in receipts])
    seen = await visible(request, receipts[-1].generation if receipts else None)
    body = CollectionErased(collection=name, removed=removed, receipts=[ReceiptView.of(one) for one in receipts])
    return answer(body, status=200 if seen and removed else 202)


async def take_away(request: web.Request, name: str, *, erase: bool) -> tuple[list[Receipt], bool]:
    """Remove a collection; ``erase``: everybody in it first, at most ERASED_AT_ONCE. Return the receipts, and whether it is gone.

    Raises:
        NotFoundError: there is none. ConflictError: cameras search it, a watchlist uses it, or somebody is in it. ForbiddenError.
    """
    store = _store(request)
    await store.get(name)
    if name == services(request).settings.recognize.collection:
        raise ConflictError(f"collection '{name}': is the one that cameras search; set recognize.collection to another one first")
    ids: list[str] = []
    if erase:
        principal(request).require("subjects.erase")
        if used := await store.users(name):
            raise ConflictError(f"collection '{name}': is used by watchlist {used[0]}; remove that first")
        ids = await store.subject_ids(name, limit=ERASED_AT_ONCE + 1)
    receipts: list[Receipt] = []
    for subject_id in ids[:ERASED_AT_ONCE]:
        try:
            receipts.append(await services(request).gallery.erase(subject_id))
        except NotFoundError:  # somebody else has erased it at this moment
            continue
    if len(ids) > ERASED_AT_ONCE:
        return receipts, False
    await store.remove(name)
    return receipts, True


def _store(request: web.Request) -> CollectionStore:
    return CollectionStore(services(request).db)


def _name(request: web.Request) -> str:
    return principal(request).require_collection(request.match_info["collection"])


def _shown(collection: Collection, status: int = 200) -> web.Response:
    return answer(CollectionView.of(collection), status=status, version=collection.version)
