"""Where has this face been?"""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from api.access.guard import visible_cameras
from api.errors import UnprocessableError
from api.history.follow import Answered, Match
from api.history.index import Wanted
from api.history.models import (
    HistoryAnswer,
    HistoryEmbedding,
    HistoryFilter,
    HistoryForm,
    HistoryMatch,
    HistoryReference,
    HistorySighting,
    PlaceView,
)
from api.notes import note
from api.principal import principal
from api.route import answer
from api.search.probes import best_of_photo, face_of_sighting, read_photo, vector_of_reference, vector_of_text
from api.services import services
from api.sightings.models import SightingView
from api.uploads import check, read_json
from core.types import F32
from sightings.record import at


async def history_photo(request: web.Request) -> web.Response:
    """Search the past for the best face of a photo."""
    form, upload = await read_photo(request)
    wanted = check(HistoryForm, {**form.fields, "photo": b""}, where="form")
    lists = {name: text.split(",") if (text := getattr(wanted, name)) else None for name in ("cameras", "camera_groups", "outcomes")}
    same = {name: getattr(wanted, name) for name in ("since", "until", "threshold", "fpir", "limit")}
    where = HistoryFilter(**same, **lists)
    _check(where)
    looked = await best_of_photo(request, upload)
    return await _search(request, where, looked.at.embeddings.vectors[0])


async def history_embedding(request: web.Request) -> web.Response:
    """Search the past for an embedding."""
    body = await read_json(request, HistoryEmbedding)
    return await _search(request, body, vector_of_text(request, body.embedding, body.model))


async def history_sighting(request: web.Request) -> web.Response:
    """Search the past for the face of a sighting."""
    body = await read_json(request, HistorySighting)
    note(request, sighting_id=str(body.sighting_id))
    face = await face_of_sighting(request, str(body.sighting_id))
    return await _search(request, body, face.embedding, without=face.sighting_id)


async def history_reference(request: web.Request) -> web.Response:
    """Search the past for an enrolled face."""
    body = await read_json(request, HistoryReference)
    note(request, reference_id=str(body.reference_id))
    return await _search(request, body, await vector_of_reference(request, str(body.reference_id)))


def _check(where: HistoryFilter) -> None:
    if where.threshold is not None and where.fpir is not None:
        raise UnprocessableError("threshold and fpir: give one of them")


async def _search(request: web.Request, where: HistoryFilter, vector: F32, *, without: str | None = None) -> web.Response:
    _check(where)
    behind = services(request)

    def threshold(searched: int) -> float:
        if where.threshold is not None:
            return where.threshold
        fpir = where.fpir if where.fpir is not None else behind.settings.recognize.target_fpir
        return behind.policy.calibration.threshold(kind="track", fpir=fpir, gallery_size=searched)

    wanted = await _wanted(request, where)
    found = await behind.history.search(vector, wanted, limit=where.limit + (without is not None), threshold=threshold)
    matches = [match for match in found.matches if match.stored.sighting.sighting_id != without]
    note(request, searched=found.searched, matches=len(matches[: where.limit]))
    return answer(_answer(request, found, matches[: where.limit], more=found.more or len(matches) > where.limit))


async def _wanted(request: web.Request, where: HistoryFilter) -> Wanted:
    """Return which sightings are searched: what is asked for, of the cameras that are granted."""
    cameras = None if where.cameras is None else frozenset(where.cameras)
    if where.camera_groups is not None:
        sql = "select name from camera where groups && $1::text[]"
        rows = await services(request).db.fetch(sql, where.camera_groups)
        of_groups = frozenset(row["name"] for row in rows)
        cameras = of_groups if cameras is None else cameras & of_groups
    seen = await visible_cameras(request)
    if seen is not None:
        cameras = seen if cameras is None else cameras & seen
    return Wanted(
        cameras=cameras,
        outcomes=None if where.outcomes is None else frozenset(where.outcomes),
        since_s=None if where.since is None else where.since.timestamp(),
        until_s=None if where.until is None else where.until.timestamp(),
    )


def _answer(request: web.Request, found: Answered, matches: Sequence[Match], *, more: bool) -> HistoryAnswer:
    behind = services(request)
    coverage = behind.history.coverage()

    def fpir(score: float) -> float:
        return behind.policy.calibration.fpir(score, kind="track", gallery_size=found.searched) if found.searched else 0.0

    return HistoryAnswer(
        model=behind.still.model,
        threshold=found.threshold,
        fpir=fpir(found.threshold),
        searched=found.searched,
        complete=coverage.complete,
        indexed=coverage.indexed,
        total=coverage.total,
        oldest_at=None if coverage.oldest_s is None else at(coverage.oldest_s),
        matches=[HistoryMatch(score=one.score, fpir=fpir(one.score), sighting=sighting_view(request, one)) for one in matches],
        more=more,
        cameras=_places(matches),
    )


def sighting_view(request: web.Request, match: Match) -> SightingView:
    """Return a sighting as who asks may see it: without its name where the collection is not granted."""
    view = SightingView.of(match.stored)
    if principal(request).sees_collection(match.stored.sighting.collection):
        return view
    return view.model_copy(update={"subject_id": None, "subject": None})


def _places(matches: Sequence[Match]) -> list[PlaceView]:
    by_camera: dict[str, list[Match]] = {}
    for match in matches:
        by_camera.setdefault(match.stored.sighting.camera, []).append(match)
    places = [_place(camera, here) for camera, here in by_camera.items()]
    return sorted(places, key=lambda place: place.last_at, reverse=True)


def _place(camera: str, here: Sequence[Match]) -> PlaceView:
    facts: dict[str, Any] = {"camera": camera, "sightings": len(here)}
    return PlaceView(
        **facts,
        first_at=at(min(match.stored.sighting.first_s for match in here)),
        last_at=at(max(match.stored.sighting.last_s for match in here)),
        best_score=here[0].score,
        best_sighting_id=here[0].stored.sighting.sighting_id,
    )
