"""Faces to search for, whatever they come as: photos, embeddings, sightings, references; each only where who asks may see it."""

import asyncio
import base64
import binascii
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from api.access.guard import visible_cameras
from api.errors import UnprocessableError
from api.principal import principal
from api.search.looked import Looked
from api.services import SEARCHING, services
from api.uploads import Form, Upload, read_form
from core.errors import NotFoundError, UsageError
from core.photo import decode_photo
from core.types import F32, Faces, Image
from enrollment.judge import face_weights
from enrollment.vectors import ReferenceVectors
from recognize.still import Pick
from sightings.record import SeenFace

SMALLEST_NORM = 1e-6


async def read_photo(request: web.Request) -> tuple[Form, Upload]:
    """Read a form with one photo. Raises UsageError and what ``read_form`` raises."""
    form = await read_form(request, file_field="photo", max_bytes=services(request).settings.api.max_upload_bytes)
    if len(form.files) > 1:
        raise UsageError(f"{len(form.files)} photos: send one a request")
    return form, form.files[0]


async def look(request: web.Request, upload: Upload, *, pick: Pick | None = None) -> Looked:
    """Find and embed the faces of a photo, when it is its turn.

    Raises:
        BusyError, UnreadableMediaError, ModelError: as their names say.
    """
    async with request.app[SEARCHING].turn():
        image = await asyncio.to_thread(decode_photo, upload.data, name=upload.name)
        found = await services(request).still.look(image, pick=pick)
        return Looked(width_px=image.shape[1], height_px=image.shape[0], at=found)


def best_face(faces: Faces, image: Image) -> NDArray[Any]:
    """Pick the large, sure, central face."""
    return np.array([int(np.argmax(face_weights(faces, image.shape[1], image.shape[0])))])


async def best_of_photo(request: web.Request, upload: Upload) -> Looked:
    """Return the best face of a photo. Raises UnprocessableError where it shows none, and what ``look`` raises."""
    looked = await look(request, upload, pick=best_face)
    if not len(looked.at.faces):
        raise UnprocessableError(f"{upload.name}: shows no face; use a photo that shows one, from the front and upright")
    return looked


def vector_of_text(request: web.Request, text: str, model: str) -> F32:
    """Read an embedding that a client has made.

    Raises:
        UnprocessableError: of another model, of another length, or without a direction.
    """
    ours = services(request).still.model
    if model != ours:
        raise UnprocessableError(f"model {model}: the model in use is {ours}; embeddings of different models can't be compared")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as err:
        raise UnprocessableError(f"embedding: is no base64: {err}") from err
    dimensions = services(request).history.dimensions
    if len(data) != 4 * dimensions:
        raise UnprocessableError(f"embedding: has {len(data)} bytes, {ours} has {dimensions} float32 in {4 * dimensions}")
    vector = np.frombuffer(data, "<f4").astype(np.float64)
    norm = float(np.linalg.norm(vector)) if np.isfinite(vector).all() else 0.0
    if norm < SMALLEST_NORM:
        raise UnprocessableError("embedding: is zero or not finite, so it has no direction")
    return np.asarray(vector / norm, np.float32)


async def face_of_sighting(request: web.Request, sighting_id: str) -> SeenFace:
    """Return the face of a sighting at a camera that is granted.

    Raises:
        NotFoundError: there is none, or not for who asks. UnprocessableError: it has no face any more, or one of another model.
    """
    behind = services(request)
    stored = await behind.sightings.get(sighting_id)
    seen = await visible_cameras(request)
    if seen is not None and stored.sighting.camera not in seen:
        raise NotFoundError(f"sighting {sighting_id}: there is none")
    faces = [face for face in await behind.sightings.faces([sighting_id]) if face.model == behind.still.model]
    if not faces:
        raise UnprocessableError(
            f"sighting {sighting_id}: has no embedding of {behind.still.model}: it was erased, or made by another model"
        )
    return faces[0]


async def vector_of_reference(request: web.Request, reference_id: str) -> F32:
    """Return the embedding of a reference in a granted collection. Raises NotFoundError."""
    behind = services(request)
    known = await ReferenceVectors(behind.db, model=behind.still.model).of_reference(reference_id)
    if not principal(request).sees_collection(known.collection):
        raise NotFoundError(f"reference {reference_id}: there is none")
    return known.vector
