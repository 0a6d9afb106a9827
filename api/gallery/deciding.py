"""Enrolment that somebody decides on: of what was set aside, and of what a camera saw."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

import numpy as np
from aiohttp import web

from api.errors import UnprocessableError, sensible
from api.gallery.asked import asked_aside, asked_sighting, asked_subject, writable_collection
from api.gallery.enroll_models import (
    Discarded,
    EnrollAnswer,
    PhotoResult,
    SetAsideAccept,
    SetAsidePage,
    SetAsideQuery,
    SetAsideView,
    SightingEnroll,
    SightingEnrolled,
)
from api.gallery.enrolling import enroll, enrolled_status, point_of, refused
from api.gallery.handlers import details_of
from api.gallery.models import SubjectView
from api.images import picture
from api.notes import note
from api.principal import principal
from api.route import answer
from api.services import services
from api.sightings.models import SightingView
from api.uploads import read_json, read_query
from core.photo import upright_size
from core.types import F32
from embed.quality import DESCRIPTIONS
from enrollment.record import NewReference, Outcome, Photo, Subject
from enrollment.service import EnrollOptions
from enrollment.set_aside import SetAside, SetAsideStore
from sightings.cursor import Cursor
from sightings.naming import name_sightings
from sightings.record import SeenFace, StoredSighting

POOR: Final = frozenset(("no_face", "several_faces", *DESCRIPTIONS))
"""Where a sighting's thumbnail says too little, the embedding that the camera's recognition made of the whole track says more."""
THUMBNAIL_POINTS: Final = np.array([[0.39, 0.44], [0.61, 0.44], [0.5, 0.56], [0.42, 0.67], [0.58, 0.67]], np.float32)
"""Where eyes, nose and mouth are in a thumbnail, as shares of its sides: a frontal face in its box, with recognize/'s margin around it."""


async def list_set_aside(request: web.Request) -> web.Response:
    """Return a page of what waits for a decision."""
    query = read_query(request, SetAsideQuery)
    who = principal(request)
    granted = None if who.collections is None else sorted(who.collections)
    if query.collection is not None:
        granted = [who.require_collection(query.collection)]
    with sensible():
        behind = Cursor.decode(query.cursor) if query.cursor else None
    store = SetAsideStore(services(request).db)
    subject_id = str(query.subject_id) if query.subject_id else None
    before = (behind.at, behind.row_id) if behind else None
    found = await store.page(granted, subject_id=subject_id, before=before, limit=query.limit + 1)
    page = found[: query.limit]
    last = page[-1] if len(found) > query.limit else None
    following = Cursor(last.created_at, UUID(last.set_aside_id)).encode() if last else None
    return answer(SetAsidePage(set_aside=[SetAsideView.of(one) for one in page], next_cursor=following))


async def get_set_aside(request: web.Request) -> web.Response:
    """Return one set-aside photo."""
    return answer(SetAsideView.of(await asked_aside(request)))


async def get_set_aside_picture(request: web.Request) -> web.Response:
    """Return a set-aside photo's picture."""
    aside = await asked_aside(request)
    jpeg = await SetAsideStore(services(request).db).picture(aside.set_aside_id)
    return await picture(request, jpeg, name=f"set-aside-{aside.set_aside_id}")


async def accept_set_aside(request: web.Request) -> web.Response:
    """Enrol a set-aside photo after all, and take it off the list."""
    body = await read_json(request, SetAsideAccept)
    aside = await asked_aside(request)
    subject = await asked_subject(request, str(body.subject_id) if body.subject_id else aside.subject_id)
    if subject.collection != aside.collection:
        raise UnprocessableError(f"subject_id: is in collection {subject.collection}, the photo was sent for {aside.collection}")
    store = SetAsideStore(services(request).db)
    jpeg = await store.picture(aside.set_aside_id)
    photo = Photo(
        file=aside.source,
        subject=subject.name,
        read=lambda: jpeg,
        subject_id=subject.subject_id,
        face=_chosen(aside, body.face),
        sha256=aside.content_sha256,
    )
    outcomes = await enroll(request, [photo], EnrollOptions(collection=aside.collection, on_doubt="enroll", wait=False))
    results = [PhotoResult.of(one) for one in outcomes]
    if outcomes[0].status == "rejected":
        raise refused(results)
    await store.discard(aside.set_aside_id)
    note(request, set_aside_id=aside.set_aside_id)
    status = await enrolled_status(request, outcomes, subject.subject_id)
    enrolled = sum(one.status == "enrolled" for one in outcomes)
    return answer(EnrollAnswer(subject_id=subject.subject_id, enrolled=enrolled, results=results), status=status)


async def discard_set_aside(request: web.Request) -> web.Response:
    """Delete a set-aside photo for good."""
    aside = await asked_aside(request)
    await SetAsideStore(services(request).db).discard(aside.set_aside_id)
    note(request, set_aside_id=aside.set_aside_id, subject_id=aside.subject_id)
    return answer(Discarded(set_aside_id=aside.set_aside_id))


async def enroll_sighting(request: web.Request) -> web.Response:
    """Enrol who a sighting shows, and give the sighting that name."""
    body = await read_json(request, SightingEnroll)
    if (body.name is None) == (body.subject_id is None):
        raise UnprocessableError("name, subject_id: give one of them")
    stored = await asked_sighting(request)
    subject, new = await _subject(request, body, stored)
    outcome: Outcome | None = None
    try:
        outcome = await _enroll_seen(request, body, stored, subject)
    finally:
        if new and (outcome is None or outcome.status == "rejected"):
            await services(request).gallery.discard_empty(subject.subject_id)
    result = PhotoResult.of(outcome)
    if outcome.status == "rejected":
        raise refused([result])
    await _name(request, stored, subject, outcome.reference_id)
    note(request, sighting_id=stored.sighting.sighting_id)
    status = await enrolled_status(request, [outcome], subject.subject_id)
    named = await services(request).sightings.get(stored.sighting.sighting_id)
    shown = SubjectView.of(await services(request).gallery.subject(subject.subject_id))
    return answer(SightingEnrolled(subject=shown, result=result, sighting=SightingView.of(named)), status=status)


async def _subject(request: web.Request, body: SightingEnroll, stored: StoredSighting) -> tuple[Subject, bool]:
    """Return who the sighting shows, and whether that is somebody new."""
    if body.subject_id is not None:
        if body.model_fields_set - {"subject_id", "on_doubt"}:
            raise UnprocessableError("subject_id: stands alone; what is recorded of the person stays as it is")
        return await asked_subject(request, str(body.subject_id)), False
    collection = await writable_collection(request, body.collection or stored.sighting.collection)
    with sensible():
        made = await services(request).gallery.make_subject(str(body.name), collection=collection, details=details_of(body))
    return made, True


async def _enroll_seen(request: web.Request, body: SightingEnroll, stored: StoredSighting, subject: Subject) -> Outcome:
    """Enrol the thumbnail; where it says too little, the embedding of the track with the thumbnail as picture."""
    sighting_id = stored.sighting.sighting_id
    jpeg = await services(request).sightings.thumbnail(sighting_id)
    options = EnrollOptions(collection=subject.collection, allow_lookalike=body.on_doubt == "enroll", wait=False)
    photo = Photo(file=f"sighting {sighting_id}", subject=subject.name, read=lambda: jpeg, subject_id=subject.subject_id)
    (outcome,) = await enroll(request, [photo], options)
    seen = await services(request).sightings.faces([sighting_id])
    if outcome.status != "rejected" or outcome.reason not in POOR or not seen:
        return outcome
    return await services(request).enroller.enroll_vector(
        subject.name,
        _reference(photo, jpeg, seen[0]),
        replace(options, on_doubt=body.on_doubt),
        subject_id=subject.subject_id,
    )


def _reference(photo: Photo, jpeg: bytes, seen: SeenFace) -> NewReference:
    size = np.array(upright_size(jpeg), np.float32)
    points: F32 = THUMBNAIL_POINTS * size
    return NewReference(
        content_sha256=hashlib.sha256(seen.embedding.tobytes()).digest(),
        face_index=0,
        source=photo.file,
        face_jpeg=jpeg,
        landmarks=points,
        quality=seen.quality,
        quality_reasons=(),
        model=seen.model,
        vector=seen.embedding,
    )


async def _name(request: web.Request, stored: StoredSighting, subject: Subject, reference_id: str | None) -> None:
    gap = timedelta(seconds=services(request).settings.sightings.episode_gap_s)
    async with services(request).db.transaction() as tx:
        who = (subject.subject_id, subject.name)
        await name_sightings(tx, [stored.sighting.sighting_id], subject=who, reference_id=reference_id, gap=gap)


def _chosen(aside: SetAside, text: str | None) -> tuple[float, float] | None:
    """Return a point in the face that is meant, pixels of the picture; None where nobody has chosen."""
    wanted = point_of(text)
    if isinstance(wanted, tuple):
        return wanted
    index = aside.face_index if wanted is None else wanted
    if index is None:
        return None
    if index >= len(aside.faces):
        raise UnprocessableError(f"face: the photo has {len(aside.faces)} faces, counted from 0; there is none of index {index}")
    x1, y1, x2, y2 = aside.faces[index].box
    return (x1 + x2) / 2, (y1 + y2) / 2
