"""What the compatible interfaces have in common: pictures in, faces out, in the collection of whoever asks."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from api.gallery.enrolling import enroll as enroll_photos
from api.principal import principal
from api.services import SEARCHING, services, visible
from core.photo import decode_photo
from enrollment.record import Outcome, Photo
from enrollment.service import EnrollOptions
from recognize.still import FaceAnswer

FILE = "photo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A picture and its faces, best detected first."""

    width_px: int
    height_px: int
    faces: list[FaceAnswer]


def collection_of(request: web.Request) -> str:
    """Return the collection of a client that can't name one: the only one it is granted, or else the deployment's."""
    granted = principal(request).collections
    chosen = services(request).settings.recognize.collection
    return next(iter(granted)) if granted is not None and len(granted) == 1 else principal(request).require_collection(chosen)


async def look(request: web.Request, data: bytes, *, collection: str, k: int = 1) -> Seen:
    """Find the faces of a photo and look them up. Raises UnreadableMediaError, UnavailableError, BusyError."""
    async with request.app[SEARCHING].turn():
        image = await asyncio.to_thread(decode_photo, data, name=FILE)
        faces = await services(request).still.recognize(image, collection=collection, k=k, threshold=None)
    return Seen(width_px=image.shape[1], height_px=image.shape[0], faces=faces)


async def enroll(
    request: web.Request, data: bytes, *, subject: str, collection: str, face: int | tuple[float, float] | None = None
) -> Outcome:
    """Enrol a face of a photo: the only one, the one with this index, or the one at this point.

    Raises:
        UsageError: the name can't be.
    """
    photo = Photo(file=FILE, subject=subject, read=lambda: data, face=face)
    (outcome,) = await enroll_photos(request, [photo], EnrollOptions(collection=collection, wait=False))
    await visible(request, outcome.generation)
    return outcome


async def names(request: web.Request) -> list[str]:
    """Return who is enrolled where the client asks."""
    collection, gallery = collection_of(request), services(request).gallery
    found: list[str] = []
    while page := await gallery.subjects(collection, after=found[-1] if found else ""):
        found += [subject.name for subject in page]
    return found
