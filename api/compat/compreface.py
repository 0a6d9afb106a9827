"""CompreFace's recognition and verification API, for Double Take, Viseron and its SDKs.

Source: REST-API-description.md of github.com/exadel-inc/CompreFace, and the requests of its Python SDK.
"""

import base64
import binascii
import math
from collections.abc import Sequence

from aiohttp import web

from api.compat.compreface_models import (
    Deleted,
    DeleteParameters,
    FaceAdded,
    FaceBox,
    FaceMatch,
    FaceParameters,
    FacesPage,
    FacesParameters,
    FileBody,
    Found,
    FoundFace,
    RecognizeParameters,
    SourceFace,
    SubjectBody,
    SubjectDeleted,
    SubjectName,
    SubjectNames,
    SubjectSimilarity,
    Updated,
    Verification,
    Verified,
)
from api.compat.failures import FaceProblemError
from api.compat.looking import collection_of, enroll, look, names
from api.compat.similarity import Similarity
from api.gallery.handlers import merges
from api.images import picture
from api.notes import note
from api.principal import principal
from api.route import answer
from api.services import services, visible
from api.uploads import Upload, read_form, read_json, read_query
from core.errors import ConflictError, NotFoundError, UnreadableMediaError
from enrollment.listing import ListedFace, count_faces, face_of, list_faces
from enrollment.record import clean_name
from recognize.still import FaceAnswer

BASE64_BYTES = 24 << 20  # of a 16 MB photo as text
_ENOUGH = {"enrolled", "unchanged"}
_PROBLEMS = {"no_face": "no_face", "several_faces": "several_faces", "unreadable": "unreadable_media"}


async def compreface_recognize(request: web.Request) -> web.Response:
    """Return the faces of a photo, each with its nearest subjects."""
    wanted = read_query(request, RecognizeParameters)
    collection = collection_of(request)
    (data,) = await _files(request, "file")
    seen = await look(request, data, collection=collection, k=wanted.prediction_count)
    faces = [face for face in seen.faces if face.detector_score >= wanted.det_prob_threshold][: wanted.limit or None]
    if not faces:
        raise FaceProblemError("no_face", "No face is found in the given image")
    note(request, collection=collection, faces=len(faces))
    found = [_found(request, face, wanted) for face in faces]
    versions = {"detector": "sightline", "calculator": services(request).policy.calibration.model} if wanted.status else None
    response = Found(result=found, plugins_versions=versions)
    return web.Response(body=response.model_dump_json(exclude_none=True).encode(), content_type="application/json")


async def compreface_add_face(request: web.Request) -> web.Response:
    """Enrol a photo of a subject."""
    subject, collection = clean_name(read_query(request, FaceParameters).subject), collection_of(request)
    (data,) = await _files(request, "file")
    outcome = await enroll(request, data, subject=subject, collection=collection)
    if outcome.status not in _ENOUGH and outcome.reference_id is None:
        duplicate = outcome.reason == "duplicate_of_same_subject"
        known = await list_faces(services(request).db, collection, subject=subject, limit=1) if duplicate else []
        if not known:
            raise FaceProblemError(_PROBLEMS.get(outcome.reason, "rejected"), outcome.detail or outcome.reason)
        return answer(FaceAdded(image_id=known[0].reference_id, subject=subject), status=201)
    note(request, collection=collection, reference_id=outcome.reference_id)
    return answer(FaceAdded(image_id=outcome.reference_id or "", subject=subject), status=201)


async def compreface_list_faces(request: web.Request) -> web.Response:
    """Return a page of references."""
    wanted, collection, db = read_query(request, FacesParameters), collection_of(request), services(request).db
    total = await count_faces(db, collection, subject=wanted.subject)
    found = await list_faces(db, collection, subject=wanted.subject, skip=wanted.page * wanted.size, limit=wanted.size)
    faces = [FaceAdded(image_id=one.reference_id, subject=one.subject) for one in found]
    pages = math.ceil(total / wanted.size)
    return answer(FacesPage(faces=faces, page_number=wanted.page, page_size=wanted.size, total_pages=pages, total_elements=total))


async def compreface_delete_faces(request: web.Request) -> web.Response:
    """Delete the references of a subject, or all."""
    wanted, collection = read_query(request, DeleteParameters), collection_of(request)
    deleted, generation = 0, None
    while found := await list_faces(services(request).db, collection, subject=wanted.subject):
        for one in found:
            generation = await services(request).gallery.delete_reference(one.reference_id)
            deleted += 1
    await visible(request, generation)
    note(request, collection=collection, references=deleted)
    return answer(Deleted(deleted=deleted))


async def compreface_delete_face(request: web.Request) -> web.Response:
    """Delete one reference."""
    face = await _face(request)
    await visible(request, await services(request).gallery.delete_reference(face.reference_id))
    return answer(FaceAdded(image_id=face.reference_id, subject=face.subject))


async def compreface_face_image(request: web.Request) -> web.Response:
    """Return the picture of a reference."""
    face = await _face(request)
    return await picture(request, await services(request).gallery.face_jpeg(face.reference_id), name=face.reference_id, own="middle")


async def compreface_verify_face(request: web.Request) -> web.Response:
    """Compare the faces of a photo with one reference."""
    face = await _face(request)
    (data,) = await _files(request, "file")
    reference = await services(request).gallery.face_jpeg(face.reference_id)
    return answer(await _verified(request, reference, data))


async def compreface_verify(request: web.Request) -> web.Response:
    """Compare the faces of two photos."""
    source, target = await _files(request, "source_image", "target_image")
    return answer(await _verified(request, source, target))


async def compreface_list_subjects(request: web.Request) -> web.Response:
    """Return the names of all subjects."""
    return answer(SubjectNames(subjects=await names(request)))


async def compreface_add_subject(request: web.Request) -> web.Response:
    """Make a subject."""
    name = (await read_json(request, SubjectBody)).subject
    subject = await services(request).gallery.make_subject(name, collection=collection_of(request))
    return answer(SubjectName(subject=subject.name), status=201)


async def compreface_rename_subject(request: web.Request) -> web.Response:
    """Rename a subject; where the new name is taken, the two are merged."""
    body, gallery, collection = await read_json(request, SubjectBody), services(request).gallery, collection_of(request)
    subject = await gallery.subject(_name(request), collection=collection)
    new = clean_name(body.subject)
    try:
        _, generation = await gallery.change(subject.subject_id, {"name": new})
    except ConflictError:
        other = await gallery.subject(new, collection=collection)
        merge = await merges(request).merge(other.subject_id, subject.subject_id, actor=principal(request).actor)
        note(request, merge_id=merge.merge_id, subject_id=other.subject_id, other_subject_id=subject.subject_id)
        generation = merge.generation
    await visible(request, generation)
    return answer(Updated(updated=True))


async def compreface_delete_subject(request: web.Request) -> web.Response:
    """Erase a subject."""
    gallery = services(request).gallery
    subject = await gallery.subject(_name(request), collection=collection_of(request))
    receipt = await gallery.erase(subject.subject_id)
    await visible(request, receipt.generation)
    note(request, receipt_id=receipt.receipt_id)
    return answer(SubjectDeleted(subject=subject.name))


async def compreface_delete_subjects(request: web.Request) -> web.Response:
    """Erase all subjects."""
    gallery, collection, deleted, generation = services(request).gallery, collection_of(request), 0, None
    while page := await gallery.subjects(collection):
        for subject in page:
            generation = (await gallery.erase(subject.subject_id)).generation
            deleted += 1
    await visible(request, generation)
    note(request, collection=collection, subjects=deleted)
    return answer(Deleted(deleted=deleted))


async def _files(request: web.Request, *fields: str) -> list[bytes]:
    """Return the photos of these fields: of a form, or of JSON with base64."""
    limit = services(request).settings.api.max_upload_bytes
    if request.content_type == "application/json" and fields == ("file",):
        text = (await read_json(request, FileBody, max_bytes=BASE64_BYTES)).file
        try:
            return [base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)]
        except (binascii.Error, ValueError) as err:
            raise UnreadableMediaError("file: is no base64") from err
    form = await read_form(request, file_field=fields, max_bytes=limit)
    by_name: dict[str, Upload] = {upload.field: upload for upload in form.files}
    if missing := [name for name in fields if name not in by_name]:
        raise FaceProblemError("missing_file", f"no file: send it as a form field named '{missing[0]}'")
    return [by_name[name].data for name in fields]


def _found(request: web.Request, face: FaceAnswer, wanted: RecognizeParameters) -> FoundFace:
    mapping = Similarity.of(services(request).policy.calibration)
    plugins = {name.strip() for name in wanted.face_plugins.split(",")}
    return FoundFace(
        box=_box(face),
        subjects=[SubjectSimilarity(subject=one.subject, similarity=round(mapping.value(one.score), 5)) for one in face.candidates],
        landmarks=[(round(x), round(y)) for x, y in face.landmarks] if "landmarks" in plugins else None,
        embedding=[float(value) for value in face.embedding] if "calculator" in plugins else None,
    )


async def _verified(request: web.Request, source: bytes, target: bytes) -> Verified:
    collection = collection_of(request)
    first, second = await look(request, source, collection=collection), await look(request, target, collection=collection)
    one = _only(first.faces)
    mapping = Similarity.of(services(request).policy.calibration)
    scores = [mapping.value(float(one.embedding @ face.embedding)) for face in second.faces]
    matches = [FaceMatch(box=_box(face), similarity=round(score, 5)) for face, score in zip(second.faces, scores, strict=True)]
    if not matches:
        raise FaceProblemError("no_face", "No face is found in the given image")
    return Verified(result=[Verification(source_image_face=SourceFace(box=_box(one)), face_matches=matches)])


def _only(faces: Sequence[FaceAnswer]) -> FaceAnswer:
    if not faces:
        raise FaceProblemError("no_face", "No face is found in the given image")
    if len(faces) > 1:
        raise FaceProblemError("several_faces", "Found more than one face in the given image")
    return faces[0]


def _box(face: FaceAnswer) -> FaceBox:
    x1, y1, x2, y2 = (round(value) for value in face.box)
    return FaceBox(probability=round(face.detector_score, 5), x_min=x1, y_min=y1, x_max=x2, y_max=y2)


async def _face(request: web.Request) -> ListedFace:
    face = await face_of(services(request).db, collection_of(request), request.match_info["image_id"])
    if face is None:
        raise NotFoundError(f"image {request.match_info['image_id'][:80]}: there is none")
    return face


def _name(request: web.Request) -> str:
    return clean_name(request.match_info["subject"])
