"""What a request names, if who asks may see it; everything else is not there."""

from aiohttp import web

from api.access.guard import sees
from api.principal import principal
from api.services import services
from api.uploads import path_id
from core.errors import NotFoundError
from enrollment.collections import no_collection
from enrollment.record import Reference, Subject
from enrollment.set_aside import SetAside, SetAsideStore, nothing_aside
from sightings.record import StoredSighting


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
    stored = await services(request).sightings.get(key)
    if not await sees(request, camera=stored.sighting.camera, collection=stored.sighting.collection):
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
