"""What belongs together."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from aiohttp import web

from api.cases.export import CaseArchive
from api.cases.models import (
    CaseNotePage,
    CaseNoteRemoved,
    CaseNoteView,
    CasePage,
    CasePatch,
    CaseQuery,
    CaseRemoved,
    CaseSightingPage,
    CaseSightingRemoved,
    CaseSightingsAdded,
    CaseSightingView,
    CaseView,
    NewCase,
    NewCaseNote,
    NewCaseSightings,
)
from api.errors import sensible
from api.images import picture
from api.models import PageQuery
from api.notes import note
from api.principal import principal
from api.route import answer, expected_version
from api.scope import scope
from api.services import services
from api.uploads import read_json, read_query
from core.errors import NotFoundError
from sightings.cases import Case, CaseSighting, CaseStore

T = TypeVar("T")
WRITE_S = 30.0  # a client that takes nothing for so long is gone
PAGE = 100


async def list_cases(request: web.Request) -> web.Response:
    """Return a page of cases."""
    query = read_query(request, CaseQuery)
    with sensible():
        found, cursor = await _store(request).query(state=query.state, owner=query.owner, limit=query.limit, cursor=query.cursor)
    return answer(CasePage(cases=[CaseView.of(one) for one in found], next_cursor=cursor))


async def create_case(request: web.Request) -> web.Response:
    """Open a case."""
    body = await read_json(request, NewCase)
    who = principal(request)
    collection = who.require_collection(body.collection or services(request).settings.recognize.collection)
    made = await _store(request).add(body.model_dump(exclude={"collection"}), collection=collection, created_by=who.name)
    note(request, case_id=made.case_id)
    response = _shown(made, status=201)
    response.headers["Location"] = f"/v1/cases/{made.case_id}"
    return response


async def get_case(request: web.Request) -> web.Response:
    """Return a case."""
    return _shown(await _store(request).get(_id(request)))


async def update_case(request: web.Request) -> web.Response:
    """Change a case."""
    changes = (await read_json(request, CasePatch)).changes()
    held = {"legal_hold": changes["legal_hold"]} if "legal_hold" in changes else {}
    note(request, case_id=_id(request)[:64], changed=sorted(changes), **held)
    return _shown(await _store(request).change(_id(request), changes, version=expected_version(request)))


async def delete_case(request: web.Request) -> web.Response:
    """Delete a case with its notes."""
    case = await _store(request).get(_id(request))
    await _store(request).remove(case.case_id, version=expected_version(request))
    note(request, case_id=case.case_id)
    return answer(CaseRemoved(case_id=case.case_id))


async def list_case_sightings(request: web.Request) -> web.Response:
    """Return a page of a case's sightings."""
    query = read_query(request, PageQuery)
    with sensible():
        found, cursor = await _store(request).sightings(_id(request), limit=query.limit, cursor=query.cursor)
    note(request, case_id=_id(request), sightings=len(found))
    return answer(CaseSightingPage(sightings=[CaseSightingView.of(one) for one in found], next_cursor=cursor))


async def add_case_sightings(request: web.Request) -> web.Response:
    """Put sightings into a case."""
    body = await read_json(request, NewCaseSightings)
    added = await _store(request).put(_id(request), body.sighting_ids, note=body.note, added_by=principal(request).name)
    note(request, case_id=_id(request), sighting_ids=body.sighting_ids, added=added)
    return answer(CaseSightingsAdded(added=added, sightings=(await _store(request).get(_id(request))).sightings))


async def remove_case_sighting(request: web.Request) -> web.Response:
    """Take a sighting out of a case."""
    removed = await _store(request).take(_id(request), request.match_info["sighting_id"])
    note(request, case_id=_id(request), sighting_ids=[request.match_info["sighting_id"][:64]])
    return answer(CaseSightingRemoved(removed=removed))


async def list_case_notes(request: web.Request) -> web.Response:
    """Return a page of a case's notes."""
    query = read_query(request, PageQuery)
    with sensible():
        found, cursor = await _store(request).notes(_id(request), limit=query.limit, cursor=query.cursor)
    return answer(CaseNotePage(notes=[CaseNoteView.of(one) for one in found], next_cursor=cursor))


async def add_case_note(request: web.Request) -> web.Response:
    """Add a note to a case."""
    body = await read_json(request, NewCaseNote)
    made = await _store(request).add_note(_id(request), body.text, author=principal(request).name)
    note(request, case_id=_id(request), note_id=made.note_id)
    return answer(CaseNoteView.of(made), status=201)


async def remove_case_note(request: web.Request) -> web.Response:
    """Delete a note of a case."""
    removed = await _store(request).remove_note(_id(request), request.match_info["note_id"])
    note(request, case_id=_id(request), note_id=request.match_info["note_id"][:64])
    return answer(CaseNoteRemoved(removed=removed))


async def export_case(request: web.Request) -> web.StreamResponse:
    """Stream a case as a zip with a signed manifest."""
    case = await _store(request).get(_id(request))
    who = principal(request)
    note(request, case_id=case.case_id, sightings=case.sightings)
    facts = {
        "format": "sightline case export 1",
        "case_id": case.case_id,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "exported_by": {"actor": who.actor, "name": who.name},
        "pictures": "as they were taken" if who.may("images.unblurred") else "faces of bystanders blurred",
    }
    archive = CaseArchive(services(request).db.vault, facts)
    name = f"case-{case.case_id}.zip"
    response = web.StreamResponse(headers={"Content-Type": "application/zip", "Content-Disposition": f'attachment; filename="{name}"'})
    await response.prepare(request)
    async for chunk in archive.stream(_contents(request, case)):
        async with asyncio.timeout(WRITE_S):
            await response.write(chunk)
    await response.write_eof()
    return response


async def _contents(request: web.Request, case: Case) -> AsyncIterator[tuple[str, bytes]]:
    """Yield the files of an export: the case with its notes, then each sighting and its picture."""
    store = _store(request)
    notes = [CaseNoteView.of(one).model_dump(mode="json") async for one in _all(lambda c: store.notes(case.case_id, limit=PAGE, cursor=c))]
    head: dict[str, Any] = {"case": CaseView.of(case).model_dump(mode="json"), "notes": notes}
    yield "case.json", _json(head)
    number = 0
    async for entry in _all(lambda c: store.sightings(case.case_id, limit=PAGE, cursor=c)):
        number += 1
        name = f"sightings/{number:04}-{entry.sighting_id}"
        yield f"{name}.json", _json(CaseSightingView.of(entry).model_dump(mode="json"))
        jpeg = await _picture(request, entry)
        if jpeg is not None:
            yield f"{name}.jpg", jpeg


async def _picture(request: web.Request, entry: CaseSighting) -> bytes | None:
    """Return the picture of a sighting as who asks may see it; None when there is none."""
    if entry.sighting is None or not entry.sighting.has_thumbnail:
        return None
    try:
        jpeg = await services(request).sightings.thumbnail(entry.sighting_id)
    except NotFoundError:
        return None  # erased since
    seen = entry.sighting.sighting
    shown = await picture(
        request, jpeg, name=f"{entry.sighting_id}-{seen.revision}", own="middle" if seen.outcome == "subject" else "nobody"
    )
    return bytes(shown.body or b"")  # type: ignore[arg-type]


async def _all(page: Callable[[str | None], Awaitable[tuple[list[T], str | None]]]) -> AsyncIterator[T]:
    """Yield the rows of all pages."""
    cursor: str | None = None
    while True:
        found, cursor = await page(cursor)
        for one in found:
            yield one
        if cursor is None:
            return


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode()


def _store(request: web.Request) -> CaseStore:
    return CaseStore(services(request).db, scope=scope(request))


def _id(request: web.Request) -> str:
    return request.match_info["case_id"]


def _shown(case: Case, status: int = 200) -> web.Response:
    return answer(CaseView.of(case), status=status, version=case.version)
