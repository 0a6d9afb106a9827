"""Who is enrolled."""

from contextlib import suppress
from typing import Any

from aiohttp import web

from api.cursor import decode_name, encode_name
from api.errors import MalformedError
from api.gallery.models import (
    Consent,
    EnrollAnswer,
    GalleryView,
    NewSubject,
    PhotoResult,
    ReceiptView,
    ReferenceErased,
    ReferenceList,
    ReferenceView,
    SubjectPage,
    SubjectPatch,
    SubjectQuery,
    SubjectView,
)
from api.principal import principal
from api.route import answer
from api.services import ENROLLING, services, visible
from api.uploads import Upload, read_form, read_json, read_query
from core.errors import NotFoundError
from enrollment.erasing import ErasureStore
from enrollment.record import Outcome, Photo, Subject, SubjectDetails
from enrollment.service import EnrollOptions
from sightings.record import parse_id


async def list_subjects(request: web.Request) -> web.Response:
    """Return a page of subjects of one collection."""
    query = read_query(request, SubjectQuery)
    after = decode_name(query.cursor) if query.cursor else ""
    found = await services(request).gallery.subjects(_collection(request, query.collection), after=after, limit=query.limit + 1)
    page = found[: query.limit]
    following = encode_name(page[-1].name) if len(found) > query.limit else None
    return answer(SubjectPage(subjects=[SubjectView.of(one) for one in page], next_cursor=following))


async def create_subject(request: web.Request) -> web.Response:
    """Make a subject without references."""
    body = await read_json(request, NewSubject)
    details = SubjectDetails(attributes=body.attributes, consent=_consent(body.consent), expires_at=body.expires_at)
    subject = await services(request).gallery.make_subject(body.name, collection=_collection(request, body.collection), details=details)
    response = answer(SubjectView.of(subject), status=201)
    response.headers["Location"] = f"/v1/subjects/{subject.subject_id}"
    return response


async def get_subject(request: web.Request) -> web.Response:
    """Return one subject."""
    return answer(SubjectView.of(await _subject(request)))


async def update_subject(request: web.Request) -> web.Response:
    """Rename a subject, or change what is recorded of it."""
    body = await read_json(request, SubjectPatch)
    subject = await _subject(request)
    gallery = services(request).gallery
    seen = True
    if body.name is not None:
        subject = await gallery.rename(subject.subject_id, body.name)
        seen = await visible(request, (await gallery.counts()).generation)
    if body.attributes or body.consent or body.expires_at:
        details = SubjectDetails(attributes=body.attributes or {}, consent=_consent(body.consent), expires_at=body.expires_at)
        subject = await gallery.update(subject.subject_id, details)
    return answer(SubjectView.of(subject), status=200 if seen else 202)


async def erase_subject(request: web.Request) -> web.Response:
    """Erase a subject everywhere and return the receipt; again, the same one."""
    subject_id = _path_id(request, "subject_id", "subject")
    receipt = await ErasureStore(services(request).db).of_subject(subject_id)
    if receipt is None or not principal(request).sees_collection(receipt.collection):
        receipt = await services(request).gallery.erase((await _subject(request)).subject_id)
    seen = await visible(request, receipt.generation)
    return answer(ReceiptView.of(receipt), status=200 if seen else 202)


async def list_references(request: web.Request) -> web.Response:
    """Return the enrolled faces of a subject."""
    subject = await _subject(request)
    found = await services(request).gallery.references(subject.subject_id)
    return answer(ReferenceList(references=[ReferenceView.of(one) for one in found]))


async def add_references(request: web.Request) -> web.Response:
    """Enrol photos of a subject, one by one; a rejected photo says why and stops no other."""
    subject = await _subject(request)
    form = await read_form(request, file_field="photo", max_bytes=services(request).settings.api.max_upload_bytes)
    _refuse_fields(form.fields)
    outcomes: list[Outcome] = []
    photos = [_photo(one, subject) for one in form.files]
    async with request.app[ENROLLING].turn():
        await services(request).enroller.enroll_all(photos, outcomes.append, EnrollOptions(collection=subject.collection))
    enrolled = sum(one.status == "enrolled" for one in outcomes)
    return answer(EnrollAnswer(subject_id=subject.subject_id, enrolled=enrolled, results=[PhotoResult.of(one) for one in outcomes]))


async def delete_reference(request: web.Request) -> web.Response:
    """Delete one enrolled face."""
    reference_id = _path_id(request, "reference_id", "reference")
    _, subject = await services(request).gallery.reference(reference_id)
    if not principal(request).sees_collection(subject.collection):
        raise NotFoundError(f"reference {reference_id}: there is none")
    generation = await services(request).gallery.delete_reference(reference_id)
    seen = await visible(request, generation)
    return answer(ReferenceErased(reference_id=reference_id, generation=generation), status=200 if seen else 202)


async def get_gallery(request: web.Request) -> web.Response:
    """Return how much is enrolled, and whether the matcher has it all."""
    granted = principal(request).collections
    gallery = services(request).gallery
    counts = await gallery.counts()
    counted = [counts] if granted is None else [await gallery.counts(name) for name in sorted(granted)]
    return answer(
        GalleryView(
            subjects=sum(one.subjects for one in counted),
            references=sum(one.references for one in counted),
            generation=counts.generation,
            visible=await visible(request, counts.generation),
        )
    )


async def _subject(request: web.Request) -> Subject:
    """Return the subject of the path; one of a collection that is not granted is not there. Raises NotFoundError."""
    key = _path_id(request, "subject_id", "subject")
    with suppress(NotFoundError):
        subject = await services(request).gallery.subject(key)
        if principal(request).sees_collection(subject.collection):
            return subject
    raise NotFoundError(f"subject {key}: there is none")


def _path_id(request: web.Request, name: str, kind: str) -> str:
    """Return an id of the path in its usual spelling: names are no ids here.

    Raises:
        NotFoundError: it is no UUID.
    """
    text = request.match_info[name]
    key = parse_id(text)
    if key is None:
        raise NotFoundError(f"{kind} {text[:64]!r}: ids are UUIDs")
    return str(key)


def _collection(request: web.Request, given: str | None) -> str:
    return principal(request).require_collection(given or services(request).settings.recognize.collection)


def _consent(consent: Consent | None) -> dict[str, Any] | None:
    return consent.model_dump(mode="json", exclude_none=True) if consent else None


def _photo(upload: Upload, subject: Subject) -> Photo:
    return Photo(file=upload.name, subject=subject.name, read=lambda: upload.data)


def _refuse_fields(fields: dict[str, str]) -> None:
    if fields:
        raise MalformedError(f"form field '{next(iter(fields))}': only files named 'photo' are taken here")
