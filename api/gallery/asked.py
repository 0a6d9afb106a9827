"""What a request names, if who asks may see it; everything else is not there."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from api.principal import Principal, principal
from api.services import services
from core.errors import NotFoundError
from enrollment.collections import no_collection
from enrollment.record import Outcome, Reference, Subject
from enrollment.set_aside import SetAside, SetAsideStore, nothing_aside
from sightings.record import StoredSighting, parse_id


def path_id(request: web.Request, name: str, kind: str) -> str:
    """Return an id of the path in its usual spelling: names are no ids here.

    Raises:
        NotFoundError: it is no UUID.
    """
    text = request.match_info[name]
    key = parse_id(text)
    if key is None:
        raise NotFoundError(f"{kind} {text[:64]!r}: ids are UUIDs")
    return str(key)


async def asked_subject(request: web.Request, subject_id: str | None = None) -> Subject:
    """Return the subject of the path, or of this id. Raises NotFoundError."""
    key = subject_id or path_id(request, "subject_id", "subject")
    subject = await services(request).gallery.subject(key)
    if subject.subject_id != key or not principal(request).sees_collection(subject.collection):  # nor one whose name looks like an id
        raise NotFoundError(f"subject '{key}': there is none; 'sightline subjects list' shows all")
    return subject


async def asked_reference(request: web.Request) -> tuple[Reference, Subject]:
    """Return the reference of the path and whose it is. Raises NotFoundError."""
    key = path_id(request, "reference_id", "reference")
    reference, subject = await services(request).gallery.reference(key)
    if not principal(request).sees_collection(subject.collection):
        raise NotFoundError(f"reference {key}: there is none")
    return reference, subject


async def asked_aside(request: web.Request) -> SetAside:
    """Return the set-aside photo of the path. Raises NotFoundError."""
    key = path_id(request, "set_aside_id", "set-aside photo")
    aside = await SetAsideStore(services(request).db).get(key)
    if not principal(request).sees_collection(aside.collection):
        raise nothing_aside(key)
    return aside


async def asked_sighting(request: web.Request) -> StoredSighting:
    """Return the sighting of the path. Raises NotFoundError."""
    key = path_id(request, "sighting_id", "sighting")
    who = principal(request)
    stored = await services(request).sightings.get(key)
    if not who.sees_collection(stored.sighting.collection) or not await _sees_camera(request, who, stored.sighting.camera):
        raise NotFoundError(f"sighting {key}: there is none")
    return stored


async def writable_collection(request: web.Request, given: str | None) -> str:
    """Return the collection to enrol into; who may not make collections needs one that is there. Raises NotFoundError."""
    usual = services(request).settings.recognize.collection
    who = principal(request)
    name = who.require_collection(given or usual)
    if name != usual and not who.may("collections.write") and name not in await services(request).gallery.collections():
        raise no_collection(name)
    return name


def newest(outcomes: Iterable[Outcome]) -> int | None:
    """Return the generation of the last change that these made."""
    return max((outcome.generation for outcome in outcomes if outcome.generation is not None), default=None)


async def _sees_camera(request: web.Request, who: Principal, camera: str) -> bool:
    if who.camera_groups is None:
        return True
    rows: list[dict[str, Any]] = await services(request).db.fetch("select groups from camera where name = $1", camera)
    return bool(rows) and who.sees_camera(rows[0]["groups"])
