"""Who is enrolled."""

from typing import Any

from aiohttp import web

from api.name_cursor import decode_name, encode_name
from api.route import answer
from api.services import services
from api.subject_models import (
    Consent,
    EnrollAnswer,
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
from api.uploads import Upload, read_form, read_json, read_query
from core.errors import NotFoundError, UsageError
from enrollment.record import Photo, Subject, SubjectDetails
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
    if body.name is not None:
        subject = await gallery.rename(subject.subject_id, body.name)
    if body.attributes or body.consent or body.expires_at:
        details = SubjectDetails(attributes=body.attributes or {}, consent=_consent(body.consent), expires_at=body.expires_at)
        subject = await gallery.update(subject.subject_id, details)
    return answer(SubjectView.of(subject))


async def erase_subject(request: web.Request) -> web.Response:
    """Erase a subject everywhere and return the receipt."""
    subject = await _subject(request)
    return answer(ReceiptView.of(await services(request).gallery.erase(subject.subject_id)))


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
    results = [
        PhotoResult.of(await services(request).enroller.enroll(_photo(one, subject), collection=subject.collection)) for one in form.files
    ]
    enrolled = sum(one.status == "enrolled" for one in results)
    return answer(EnrollAnswer(subject_id=subject.subject_id, enrolled=enrolled, results=results))


async def delete_reference(request: web.Request) -> web.Response:
    """Delete one enrolled face."""
    reference_id = _path_id(request, "reference_id", "reference")
    generation = await services(request).gallery.delete_reference(reference_id)
    return answer(ReferenceErased(reference_id=reference_id, generation=generation))


async def _subject(request: web.Request) -> Subject:
    return await services(request).gallery.subject(_path_id(request, "subject_id", "subject"))


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
    return given or services(request).settings.recognize.collection


def _consent(consent: Consent | None) -> dict[str, Any] | None:
    return consent.model_dump(mode="json", exclude_none=True) if consent else None


def _photo(upload: Upload, subject: Subject) -> Photo:
    return Photo(file=upload.name, subject=subject.name, read=lambda: upload.data)


def _refuse_fields(fields: dict[str, str]) -> None:
    if fields:
        raise UsageError(f"form field '{next(iter(fields))}': only files named 'photo' are taken here")
