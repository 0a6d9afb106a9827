"""What the compatible interfaces have in common: pictures in, faces out, in the collection of whoever asks."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from api.principal import principal
from api.services import ENROLLING, SEARCHING, services
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
    outcomes: list[Outcome] = []
    photo = Photo(file=FILE, subject=subject, read=lambda: data, face=face)
    async with request.app[ENROLLING].turn():
        await services(request).enroller.enroll_all([photo], outcomes.append, EnrollOptions(collection=collection))
    return outcomes[0]
