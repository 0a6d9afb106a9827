"""Amazon Rekognition's face collections, as boto3 and the AWS CLI speak them (JSON 1.1; shapes: botocore, rekognition 2016-06-27).

The access key id is the API key; the signature is not checked, for a key of ours is a secret by itself: use TLS, as for any bearer token.
A face is a reference; its subject is named by ExternalImageId, or by its own id where there is none.
"""

import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ValidationError

from api.compat import rekognition_models as models
from api.compat.failures import AMZ_JSON, FaceProblemError
from api.compat.looking import Seen, enroll, look
from api.compat.similarity import Similarity
from api.gallery.collections import take_away
from api.notes import note
from api.principal import Permission, principal
from api.services import services, visible
from api.uploads import read_json
from core.errors import ConflictError, NotFoundError, UsageError
from enrollment.collections import CollectionStore
from enrollment.listing import ListedFace, face_of, list_faces
from enrollment.record import Receipt
from recognize.still import FaceAnswer

PREFIX: Final = "RekognitionService."
BODY_BYTES: Final = 24 << 20  # two photos of 5 MB as base64, and what is around them
MOST_MATCHES: Final = 100
NAMESPACE: Final = uuid.UUID("0f6b2f0e-7a53-5c0b-9d2f-9e0d5c6b4a10")
_LANDMARKS: Final = ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")
_UNINDEXED: Final[Mapping[str, str]] = {
    "too_small": "SMALL_BOUNDING_BOX",
    "blurred": "LOW_SHARPNESS",
    "too_dark": "LOW_BRIGHTNESS",
    "extreme_pose": "EXTREME_POSE",
    "low_detector_score": "LOW_CONFIDENCE",
}
Answer = dict[str, Any]


async def rekognition(request: web.Request) -> web.Response:
    """Answer one of Rekognition's actions, which the header X-Amz-Target names."""
    target = request.headers.get("X-Amz-Target", "")
    action = ACTIONS.get(target.removeprefix(PREFIX)) if target.startswith(PREFIX) else None
    if action is None:
        raise UsageError(f"X-Amz-Target: '{target[:80]}' is not served here; these are: {', '.join(sorted(ACTIONS))}")
    permission, act = action
    principal(request).require(permission)
    given = await read_json(request, models.AnyBody, max_bytes=BODY_BYTES, content_types=(AMZ_JSON, "application/json"))
    note(request, action=target.removeprefix(PREFIX))
    try:
        answered = await act(request, given.model_extra or {})
    except ValidationError as err:
        problem = err.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from err
    return web.Response(body=msgspec.json.encode(answered), content_type=AMZ_JSON)


async def _create_collection(request: web.Request, given: Mapping[str, Any]) -> Answer:
    name = models.CollectionBody.model_validate(given).CollectionId
    principal(request).require_collection(name)
    await CollectionStore(services(request).db).add(name)
    return {"StatusCode": 200, "CollectionArn": f"sightline:collection/{name}", "FaceModelVersion": _model(request)}


async def _delete_collection(request: web.Request, given: Mapping[str, Any]) -> Answer:
    name = await _collection(request, models.CollectionBody.model_validate(given).CollectionId)
    removed, receipts = False, list[Receipt]()
    while not removed:
        try:
            erased, removed = await take_away(request, name, erase=True)
        except ConflictError as err:
            raise FaceProblemError("usage", str(err)) from err
        receipts += erased
    await visible(request, receipts[-1].generation if receipts else None)
    return {"StatusCode": 200}


async def _list_collections(request: web.Request, given: Mapping[str, Any]) -> Answer:
    wanted = models.PageBody.model_validate(given)
    names = [name for name in await services(request).gallery.collections() if principal(request).sees_collection(name)]
    behind = [name for name in names if wanted.NextToken is None or name > wanted.NextToken]
    page = behind[: wanted.MaxResults or 100]
    answered: Answer = {"CollectionIds": page, "FaceModelVersions": [_model(request)] * len(page)}
    return answered | ({"NextToken": page[-1]} if len(behind) > len(page) else {})


async def _describe_collection(request: web.Request, given: Mapping[str, Any]) -> Answer:
    name = await _collection(request, models.CollectionBody.model_validate(given).CollectionId)
    found = await CollectionStore(services(request).db).get(name)
    return {
        "FaceCount": found.references,
        "UserCount": found.subjects,
        "FaceModelVersion": _model(request),
        "CollectionARN": f"sightline:collection/{name}",
        "CreationTimestamp": found.created_at.timestamp(),
    }


async def _index_faces(request: web.Request, given: Mapping[str, Any]) -> Answer:
    wanted = models.IndexFacesBody.model_validate(given)
    collection = await _collection(request, wanted.CollectionId)
    data = wanted.Image.data()
    seen = await look(request, data, collection=collection)
    largest = sorted(seen.faces, key=_area, reverse=True)
    records, left = [], [_unindexed(face, seen, "EXCEEDS_MAX_FACES") for face in largest[wanted.MaxFaces or len(largest) :]]
    for face in largest[: wanted.MaxFaces or len(largest)]:
        subject = wanted.ExternalImageId or f"face-{uuid.uuid4()}"
        x1, y1, x2, y2 = face.box
        outcome = await enroll(request, data, subject=subject, collection=collection, face=((x1 + x2) / 2, (y1 + y2) / 2))
        if outcome.reference_id is None:
            left.append(_unindexed(face, seen, _UNINDEXED.get(outcome.reason, "LOW_FACE_QUALITY")))
            continue
        found = ListedFace(reference_id=outcome.reference_id, subject_id=outcome.subject_id or "", subject=subject)
        records.append({"Face": _face(found, seen, face, image_id=_image_id(data)), "FaceDetail": _detail(face, seen)})
    note(request, collection=collection, references=[one["Face"]["FaceId"] for one in records])
    return {"FaceRecords": records, "UnindexedFaces": left, "FaceModelVersion": _model(request)}


async def _search_by_image(request: web.Request, given: Mapping[str, Any]) -> Answer:
    wanted = models.SearchByImageBody.model_validate(given)
    collection = await _collection(request, wanted.CollectionId)
    seen = await look(request, wanted.Image.data(), collection=collection, k=min(wanted.MaxFaces, MOST_MATCHES))
    face = _largest(seen)
    matches = _matches(request, face, wanted.FaceMatchThreshold)
    note(request, collection=collection, matches=len(matches))
    return {
        "SearchedFaceBoundingBox": _bounds(face, seen),
        "SearchedFaceConfidence": 100 * face.detector_score,
        "FaceMatches": matches,
        "FaceModelVersion": _model(request),
    }


async def _search_faces(request: web.Request, given: Mapping[str, Any]) -> Answer:
    wanted = models.SearchFacesBody.model_validate(given)
    collection = await _collection(request, wanted.CollectionId)
    own = await face_of(services(request).db, collection, wanted.FaceId)
    if own is None:
        raise FaceProblemError("usage", f"faceId {wanted.FaceId} was not found in the collection {collection}")
    jpeg = await services(request).gallery.face_jpeg(own.reference_id)
    seen = await look(request, jpeg, collection=collection, k=min(wanted.MaxFaces + 1, MOST_MATCHES))
    matches = _matches(request, _largest(seen), wanted.FaceMatchThreshold)
    others = [one for one in matches if one["Face"]["FaceId"] != own.reference_id][: wanted.MaxFaces]
    return {"SearchedFaceId": own.reference_id, "FaceMatches": others, "FaceModelVersion": _model(request)}


async def _list_faces(request: web.Request, given: Mapping[str, Any]) -> Answer:
    wanted = models.ListFacesBody.model_validate(given)
    collection = await _collection(request, wanted.CollectionId)
    limit = wanted.MaxResults or 1000
    found = await list_faces(services(request).db, collection, after=wanted.NextToken, limit=limit + 1)
    page = found[:limit]
    answered: Answer = {"Faces": [_face(one) for one in page], "FaceModelVersion": _model(request)}
    return answered | ({"NextToken": page[-1].reference_id} if len(found) > limit else {})


async def _delete_faces(request: web.Request, given: Mapping[str, Any]) -> Answer:
    wanted = models.DeleteFacesBody.model_validate(given)
    collection = await _collection(request, wanted.CollectionId)
    deleted, generation, missing = [], None, []
    for face_id in wanted.FaceIds:
        face = await face_of(services(request).db, collection, face_id)
        if face is None:
            missing.append({"FaceId": face_id, "Reasons": ["FACE_NOT_FOUND"]})
            continue
        generation = await services(request).gallery.delete_reference(face.reference_id)
        deleted.append(face.reference_id)
    await visible(request, generation)
    note(request, collection=collection, references=deleted)
    return {"DeletedFaces": deleted, "UnsuccessfulFaceDeletions": missing}


async def _compare_faces(request: web.Request, given: Mapping[str, Any]) -> Answer:
    wanted = models.CompareBody.model_validate(given)
    collection = services(request).settings.recognize.collection
    source = await look(request, wanted.SourceImage.data(), collection=collection)
    target = await look(request, wanted.TargetImage.data(), collection=collection)
    face, mapping = _largest(source), Similarity.of(services(request).policy.calibration)
    compared = [(100 * mapping.value(float(face.embedding @ other.embedding)), other) for other in target.faces]
    return {
        "SourceImageFace": {"BoundingBox": _bounds(face, source), "Confidence": 100 * face.detector_score},
        "FaceMatches": [
            {"Similarity": similarity, "Face": _detail(other, target)}
            for similarity, other in sorted(compared, key=lambda one: -one[0])
            if similarity >= wanted.SimilarityThreshold
        ],
        "UnmatchedFaces": [_detail(other, target) for similarity, other in compared if similarity < wanted.SimilarityThreshold],
    }


async def _detect_faces(request: web.Request, given: Mapping[str, Any]) -> Answer:
    wanted = models.DetectBody.model_validate(given)
    seen = await look(request, wanted.Image.data(), collection=services(request).settings.recognize.collection)
    return {"FaceDetails": [_detail(face, seen) for face in seen.faces]}


ACTIONS: Final[Mapping[str, tuple[Permission, Callable[[web.Request, Mapping[str, Any]], Awaitable[Answer]]]]] = {
    "CreateCollection": ("collections.write", _create_collection),
    "DeleteCollection": ("collections.write", _delete_collection),
    "ListCollections": ("subjects.read", _list_collections),
    "DescribeCollection": ("subjects.read", _describe_collection),
    "IndexFaces": ("subjects.write", _index_faces),
    "SearchFacesByImage": ("search", _search_by_image),
    "SearchFaces": ("search", _search_faces),
    "ListFaces": ("subjects.read", _list_faces),
    "DeleteFaces": ("subjects.write", _delete_faces),
    "CompareFaces": ("search", _compare_faces),
    "DetectFaces": ("search", _detect_faces),
}


async def _collection(request: web.Request, name: str) -> str:
    """Return a collection that is there and granted."""
    principal(request).require_collection(name)
    if name not in await services(request).gallery.collections():
        raise NotFoundError(f"the collection id: {name} does not exist")
    return name


def _matches(request: web.Request, face: FaceAnswer, least: float) -> list[Answer]:
    mapping = Similarity.of(services(request).policy.calibration)
    return [
        {"Similarity": similarity, "Face": _face(ListedFace(reference_id=one.reference_id, subject_id=one.subject_id, subject=one.subject))}
        for one in face.candidates
        if (similarity := 100 * mapping.value(one.score)) >= least
    ]


def _face(one: ListedFace, seen: Seen | None = None, face: FaceAnswer | None = None, *, image_id: str | None = None) -> Answer:
    answered: Answer = {"FaceId": one.reference_id, "ImageId": image_id or one.reference_id, "Confidence": 99.9}
    if models.EXTERNAL_ID.fullmatch(one.subject) and not one.subject.startswith("face-"):
        answered["ExternalImageId"] = one.subject
    if seen is not None and face is not None:
        answered |= {"BoundingBox": _bounds(face, seen), "Confidence": 100 * face.detector_score}
    return answered


def _detail(face: FaceAnswer, seen: Seen) -> Answer:
    points = zip(_LANDMARKS, face.landmarks, strict=True)
    return {
        "BoundingBox": _bounds(face, seen),
        "Confidence": 100 * face.detector_score,
        "Landmarks": [{"Type": kind, "X": x / seen.width_px, "Y": y / seen.height_px} for kind, (x, y) in points],
    }


def _unindexed(face: FaceAnswer, seen: Seen, reason: str) -> Answer:
    return {"Reasons": [reason], "FaceDetail": _detail(face, seen)}


def _bounds(face: FaceAnswer, seen: Seen) -> Answer:
    x1, y1, x2, y2 = face.box
    width, height = seen.width_px, seen.height_px
    return {"Left": x1 / width, "Top": y1 / height, "Width": (x2 - x1) / width, "Height": (y2 - y1) / height}


def _largest(seen: Seen) -> FaceAnswer:
    if not seen.faces:
        raise UsageError("There are no faces in the image. Should be at least 1.")
    return max(seen.faces, key=_area)


def _area(face: FaceAnswer) -> float:
    x1, y1, x2, y2 = face.box
    return (x2 - x1) * (y2 - y1)


def _image_id(data: bytes) -> str:
    return str(uuid.uuid5(NAMESPACE, hashlib.sha256(data).hexdigest()))


def _model(request: web.Request) -> str:
    return services(request).policy.calibration.model
