"""An unknown person gets a name: faces are enrolled, the history is renamed, and all of it can be undone."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from aiohttp import web

from api.errors import UnprocessableError
from api.history.person_models import NamePerson
from api.principal import principal
from api.search.probes import best_face
from api.services import SEARCHING, ApiServices, services
from core.errors import ConflictError, NotFoundError, UnreadableMediaError, UsageError
from core.photo import decode_photo
from enrollment.record import NewReference, Outcome, SubjectDetails, clean_name
from enrollment.service import EnrollOptions
from sightings.naming import name_sightings, take_names
from sightings.people_store import Person, PersonStore
from sightings.record import SeenFace

MOST_REFERENCES = 3  # enrolled of a person: what one usually has
MOST_TRIED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What naming did."""

    subject_id: str
    enrolled: int
    sightings: int
    generation: int | None


async def name_person(request: web.Request, person: Person, wanted: NamePerson) -> Named:
    """Enrol the best faces of a person and give its sightings the name.

    Raises:
        NotFoundError: no such subject, or not for who asks. ConflictError: it has a name, or the new subject's name is taken.
        UnprocessableError: no picture of the person can be enrolled.
    """
    behind = services(request)
    if person.subject_id is not None:
        raise ConflictError(f"person {person.person_id}: has a name already; undo that first")
    collection = principal(request).require_collection(wanted.collection or behind.settings.recognize.collection)
    subject_id, subject = (await _subject(request, str(wanted.subject_id))) if wanted.subject_id else (None, _clean(str(wanted.name)))
    faces = await _faces(request, person.person_id)
    if not faces:
        raise UnprocessableError(f"person {person.person_id}: none of its pictures shows a face that can be enrolled; name it from a photo")
    if subject_id is None:
        made = await behind.gallery.make_subject(subject, collection=collection, details=SubjectDetails())
        subject_id, subject = made.subject_id, made.name
    outcomes = [await _enroll(behind, (subject_id, subject, collection), face) for face in faces]
    enrolled = [outcome for outcome in outcomes if outcome.status == "enrolled" and outcome.reference_id]
    naming: dict[str, Any] = {"references": [one.reference_id for one in enrolled], "made_subject": wanted.subject_id is None}
    async with behind.db.transaction() as tx:
        sightings = await PersonStore(behind.db).name(tx, person.person_id, subject_id, naming)
        reference_id = next((one.reference_id for one in outcomes if one.reference_id), None)
        count = await name_sightings(tx, sightings, subject=(subject_id, subject), reference_id=reference_id, gap=_gap(behind))
    generation = max((one.generation for one in enrolled if one.generation is not None), default=None)
    return Named(subject_id=subject_id, enrolled=len(enrolled), sightings=count, generation=generation)


async def unname_person(request: web.Request, person_id: str) -> int | None:
    """Take a person's name back: sightings are a stranger's again, what was enrolled is not any more, a subject made for it is erased.

    Returns:
        The gallery's generation, if it changed.

    Raises:
        NotFoundError: no such person. ConflictError: it has no name.
    """
    behind = services(request)
    async with behind.db.transaction() as tx:
        before, sightings = await PersonStore(behind.db).unname(tx, person_id)
        await take_names(tx, sightings, gap=_gap(behind))
    generation = None
    naming = before.naming or {}
    for reference_id in naming.get("references", ()):
        try:
            generation = await behind.gallery.delete_reference(reference_id)
        except NotFoundError:
            continue  # somebody deleted it already
    if naming.get("made_subject") and before.subject_id and not await behind.gallery.references(before.subject_id):
        generation = (await behind.gallery.erase(before.subject_id)).generation
    return generation


def _clean(name: str) -> str:
    try:
        return clean_name(name)
    except UsageError as err:
        raise UnprocessableError(str(err)) from err


def _gap(behind: ApiServices) -> timedelta:
    return timedelta(seconds=behind.settings.sightings.episode_gap_s)


async def _subject(request: web.Request, subject_id: str) -> tuple[str, str]:
    subject = await services(request).gallery.subject(subject_id)
    if not principal(request).sees_collection(subject.collection):
        raise NotFoundError(f"subject '{subject_id}': there is none")
    return subject.subject_id, subject.name


async def _faces(request: web.Request, person_id: str) -> Sequence[NewReference]:
    """Return the person's best exemplars that a picture is kept of, as references."""
    behind = services(request)
    exemplars = [face for _, face in await PersonStore(behind.db).exemplars(behind.still.model, [person_id])]
    found: list[NewReference] = []
    for face in sorted(exemplars, key=lambda one: (-one.quality, one.sighting_id))[:MOST_TRIED]:
        if len(found) < MOST_REFERENCES and (reference := await _reference(request, face)):
            found.append(reference)
    return found


async def _reference(request: web.Request, face: SeenFace) -> NewReference | None:
    """Return a sighting's face as a reference; None when no picture of it is kept, or none that shows a face."""
    behind = services(request)
    try:
        jpeg = await behind.sightings.thumbnail(face.sighting_id)
        async with request.app[SEARCHING].turn():
            image = await asyncio.to_thread(decode_photo, jpeg, name="thumbnail")
            looked = await behind.still.look(image, pick=best_face)
    except (NotFoundError, UnreadableMediaError):
        return None
    if not len(looked.faces):
        return None
    return NewReference(
        content_sha256=hashlib.sha256(face.embedding.astype("<f4").tobytes()).digest(),
        face_index=0,
        source=f"sighting {face.sighting_id}",
        face_jpeg=jpeg,
        landmarks=np.asarray(looked.faces.landmarks[0], np.float32),
        quality=face.quality,
        quality_reasons=(),
        model=face.model,
        vector=face.embedding,
    )


async def _enroll(behind: ApiServices, subject: tuple[str, str, str], face: NewReference) -> Outcome:
    subject_id, name, collection = subject
    options = EnrollOptions(collection=collection, on_doubt="enroll", wait=False)
    return await behind.enroller.enroll_vector(name, face, options, subject_id=subject_id)
