"""Enrolment: photos become references, of a subject that is there or of a new one."""

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from api.errors import NothingEnrolledError, UnprocessableError, sensible
from api.gallery.asked import asked_reference, asked_subject, writable_collection
from api.gallery.enroll_models import (
    EnrollAnswer,
    EnrollForm,
    NewEnrolled,
    NewEnrollForm,
    PhotoResult,
    ReferenceErased,
    ReferenceList,
    ReferenceMove,
    ReferenceView,
)
from api.gallery.models import Consent, SubjectView
from api.images import picture
from api.notes import note
from api.route import answer
from api.services import ENROLLING, services, visible
from api.uploads import Form, Upload, check, read_form, read_json
from enrollment.record import Outcome, Photo, Subject, SubjectDetails, check_attributes
from enrollment.service import EnrollOptions
from enrollment.telling import newest


async def list_references(request: web.Request) -> web.Response:
    """Return the enrolled faces of a subject."""
    subject = await asked_subject(request)
    found = await services(request).gallery.references(subject.subject_id)
    return answer(ReferenceList(references=[ReferenceView.of(one) for one in found]))


async def get_reference(request: web.Request) -> web.Response:
    """Return one enrolled face."""
    return answer(ReferenceView.of((await asked_reference(request))[0]))


async def get_reference_picture(request: web.Request) -> web.Response:
    """Return the picture of an enrolled face."""
    reference, _ = await asked_reference(request)
    jpeg = await services(request).gallery.face_jpeg(reference.reference_id)
    return await picture(request, jpeg, name=f"reference-{reference.reference_id}", own="middle")


async def move_reference(request: web.Request) -> web.Response:
    """Give an enrolled face to another subject."""
    body = await read_json(request, ReferenceMove)
    reference, owner = await asked_reference(request)
    target = await asked_subject(request, str(body.subject_id))
    if target.collection != owner.collection:
        raise UnprocessableError(f"subject_id: is in collection {target.collection}, the face in {owner.collection}")
    generation = await services(request).gallery.move_reference(reference.reference_id, target.subject_id)
    note(request, reference_id=reference.reference_id, subject_id=owner.subject_id, other_subject_id=target.subject_id)
    seen = await visible(request, generation)
    moved, _ = await services(request).gallery.reference(reference.reference_id)
    return answer(ReferenceView.of(moved), status=200 if seen else 202)


async def delete_reference(request: web.Request) -> web.Response:
    """Delete one enrolled face."""
    reference, subject = await asked_reference(request)
    generation = await services(request).gallery.delete_reference(reference.reference_id)
    note(request, reference_id=reference.reference_id, subject_id=subject.subject_id)
    seen = await visible(request, generation)
    return answer(ReferenceErased(reference_id=reference.reference_id, generation=generation), status=200 if seen else 202)


async def add_references(request: web.Request) -> web.Response:
    """Enrol photos of a subject, one by one; a rejected photo says why and stops no other."""
    subject = await asked_subject(request)
    form = await _read(request)
    wanted = check(EnrollForm, {**form.fields, "photo": [b""] * len(form.files)}, where="form")
    photos = _photos(form.files, subject, wanted.face)
    outcomes = await enroll(request, photos, EnrollOptions(collection=subject.collection, on_doubt=wanted.on_doubt, wait=False))
    body = EnrollAnswer(subject_id=subject.subject_id, enrolled=_count(outcomes), results=[PhotoResult.of(one) for one in outcomes])
    return answer(body, status=await enrolled_status(request, outcomes, subject.subject_id))


async def enroll_person(request: web.Request) -> web.Response:
    """Make a subject of photos."""
    form = await _read(request)
    wanted = check(NewEnrollForm, {**form.fields, "photo": [b""] * len(form.files)}, where="form")
    if wanted.all_or_nothing and wanted.on_doubt == "set_aside":
        raise UnprocessableError("all_or_nothing, on_doubt: what is set aside is not enrolled; give reject or enroll")
    collection = await writable_collection(request, wanted.collection)
    options = EnrollOptions(collection=collection, on_doubt=wanted.on_doubt, wait=False)
    details, gallery = _details(wanted), services(request).gallery
    with sensible():
        if wanted.all_or_nothing:
            photos = [_photo(one, wanted.name, None, _face(wanted.face, len(form.files))) for one in form.files]
            async with request.app[ENROLLING].turn():
                outcomes = await services(request).enroller.enroll_new(photos, details, options)
            subject_id = next((one.subject_id for one in outcomes if one.subject_id), None)
        else:
            subject = await gallery.make_subject(wanted.name, collection=collection, details=details)
            outcomes = await _enroll_or_discard(request, form, subject, options=options, face=wanted.face)
            subject_id = subject.subject_id
    results = [PhotoResult.of(one) for one in outcomes]
    if subject_id is None or all(one.status == "rejected" for one in outcomes):
        raise NothingEnrolledError("no photo was enrolled, so nobody was made; details say of each why", [_detail(one) for one in results])
    status = await enrolled_status(request, outcomes, subject_id)
    body = NewEnrolled(subject=SubjectView.of(await gallery.subject(subject_id)), enrolled=_count(outcomes), results=results)
    response = answer(body, status=201 if status == 200 else status)
    response.headers["Location"] = f"/v1/subjects/{subject_id}"
    return response


async def enroll(request: web.Request, photos: Sequence[Photo], options: EnrollOptions) -> list[Outcome]:
    """Enrol photos in one's turn; waiting for the matchers is left to after it.

    Raises:
        BusyError: so many wait already.
    """
    outcomes: list[Outcome] = []
    async with request.app[ENROLLING].turn():
        await services(request).enroller.enroll_all(photos, outcomes.append, options)
    return outcomes


async def enrolled_status(request: web.Request, outcomes: Sequence[Outcome], subject_id: str) -> int:
    """Note what was enrolled, wait until every matcher has it, and return 200, or 202 when they do not in time."""
    ids = [one.reference_id for one in outcomes if one.status == "enrolled"]
    note(request, subject_id=subject_id, reference_ids=ids, photos=len(outcomes))
    return 200 if await visible(request, newest(outcomes)) else 202


def point_of(text: str | None) -> int | tuple[float, float] | None:
    """Return which face a client means: an index or a point."""
    if text is None or "," not in text:
        return None if text is None else int(text)
    x, _, y = text.partition(",")
    return float(x), float(y)


def refused(results: Sequence[PhotoResult]) -> NothingEnrolledError:
    """Return the error of a single photo that could not be enrolled."""
    return NothingEnrolledError(f"was not enrolled: {results[0].detail}", [_detail(one) for one in results])


async def _read(request: web.Request) -> Form:
    return await read_form(request, file_field="photo", max_bytes=services(request).settings.api.max_upload_bytes)


async def _enroll_or_discard(
    request: web.Request, form: Form, subject: Subject, *, options: EnrollOptions, face: str | None
) -> list[Outcome]:
    """Enrol a new subject's photos; when none is kept, or it breaks off, take the subject back."""
    kept = False
    try:
        outcomes = await enroll(request, _photos(form.files, subject, face), options)
        kept = any(one.status != "rejected" for one in outcomes)
    finally:
        if not kept:
            await services(request).gallery.discard_empty(subject.subject_id)
    return outcomes


def _photos(files: Sequence[Upload], subject: Subject, face: str | None) -> list[Photo]:
    wanted = _face(face, len(files))
    return [_photo(one, subject.name, subject.subject_id, wanted) for one in files]


def _photo(upload: Upload, name: str, subject_id: str | None, face: int | tuple[float, float] | None) -> Photo:
    return Photo(file=upload.name, subject=name, read=lambda: upload.data, subject_id=subject_id, face=face)


def _face(text: str | None, files: int) -> int | tuple[float, float] | None:
    if text is not None and files > 1:
        raise UnprocessableError(f"face: is for one photo, and {files} came; send them one by one")
    return point_of(text)


def _details(form: NewEnrollForm) -> SubjectDetails:
    attributes = _json_object("attributes", form.attributes)
    consent = _json_object("consent", form.consent)
    try:
        checked = Consent.model_validate_json(json.dumps(consent)) if consent else None
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        raise UnprocessableError(f"consent: {'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]) from err
    with sensible():
        attributes = check_attributes(attributes)
    return SubjectDetails(
        attributes=attributes,
        consent=checked.model_dump(mode="json", exclude_none=True) if checked else None,
        expires_at=form.valid_until,
        valid_from=form.valid_from,
        external_id=form.external_id,
        notes=form.notes,
    )


def _json_object(name: str, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as err:
        raise UnprocessableError(f"{name}: is no JSON object") from err
    if not isinstance(value, dict):
        raise UnprocessableError(f"{name}: is no JSON object")
    return value


def _count(outcomes: Sequence[Outcome]) -> int:
    return sum(one.status == "enrolled" for one in outcomes)


def _detail(result: PhotoResult) -> dict[str, Any]:
    return {"field": result.file, "problem": result.detail, "result": result.model_dump(mode="json")}
