"""Who is this? By photo, embedding, sighting or reference; and are these two one?"""

import math
from typing import Any

import numpy as np
from aiohttp import web

from api.errors import UnprocessableError
from api.notes import note
from api.principal import principal
from api.route import answer
from api.search.comparing import Asked, asked_of, candidate_views, compare, fpir_of
from api.search.looked import Looked
from api.search.models import (
    EmbeddingSearch,
    FaceView,
    Filtered,
    ProbeAnswer,
    ReferenceSearch,
    SearchAnswer,
    SearchForm,
    SightingSearch,
    VerifiedFace,
    VerifyAnswer,
    VerifyForm,
)
from api.search.probes import best_face, best_of_photo, face_of_sighting, look, read_photo, vector_of_reference, vector_of_text
from api.services import services
from api.uploads import check, read_form, read_json
from core.errors import NotFoundError
from core.ports import MatchAnswer
from core.types import F32, Candidate, Quality
from enrollment.vectors import KnownVector, ReferenceVectors
from recognize.decide import decide
from recognize.judge import Face
from recognize.still import FaceAnswer, shown_of

GOOD = Quality(value=1.0, reasons=())  # of an embedding, nothing is known but itself


async def search(request: web.Request) -> web.Response:
    """Look up the faces of a photo in the gallery."""
    form, upload = await read_photo(request)
    wanted = check(SearchForm, {**form.fields, "photo": b""}, where="form")
    asked = await asked_of(request, wanted)
    looked = await look(request, upload, pick=best_face if wanted.face == "best" else None)
    found = await compare(request, looked.at.embeddings.vectors, asked) if len(looked.at.faces) else await _nobody(request, asked)
    behind = services(request)
    faces = behind.still.decide(looked.at, found, asked.scope, k=asked.k)
    threshold = behind.book.now.effective(behind.policy, asked.scope, references=found.references).score
    note(request, faces=len(faces), collection=asked.wanted.collection, matches=sum(one.decision.outcome == "subject" for one in faces))
    return answer(
        SearchAnswer(
            **_terms(request, asked, found, threshold),
            width_px=looked.width_px,
            height_px=looked.height_px,
            faces=[face_view(request, face, found.references) for face in faces],
        )
    )


async def search_embedding(request: web.Request) -> web.Response:
    """Look up an embedding that was made elsewhere."""
    body = await read_json(request, EmbeddingSearch)
    return await _search_vector(request, body, vector_of_text(request, body.embedding, body.model))


async def search_sighting(request: web.Request) -> web.Response:
    """Look up the face of a sighting."""
    body = await read_json(request, SightingSearch)
    face = await face_of_sighting(request, str(body.sighting_id))
    note(request, sighting_id=str(body.sighting_id))
    return await _search_vector(request, body, face.embedding)


async def search_reference(request: web.Request) -> web.Response:
    """Look up an enrolled face: who else looks like this?"""
    body = await read_json(request, ReferenceSearch)
    note(request, reference_id=str(body.reference_id))
    return await _search_vector(request, body, await vector_of_reference(request, str(body.reference_id)))


async def verify(request: web.Request) -> web.Response:
    """Compare two photos, or a photo and a subject."""
    form = await read_form(request, file_field="photo", max_bytes=services(request).settings.api.max_upload_bytes)
    wanted = check(VerifyForm, {**form.fields, "photo": [b""] * len(form.files)}, where="form")
    if wanted.threshold is not None and wanted.far is not None:
        raise UnprocessableError("threshold and far: give one of them")
    if (len(form.files) == 2) == (wanted.subject_id is not None):
        raise UnprocessableError("give two photos, or one photo and subject_id")
    references = await _references(request, str(wanted.subject_id)) if wanted.subject_id else []
    looked = [await best_of_photo(request, upload) for upload in form.files]
    probe = looked[0].at.embeddings.vectors[0]
    others = [one.vector for one in references] or [looked[1].at.embeddings.vectors[0]]
    scores = np.stack(others) @ probe
    nearest = int(scores.argmax())
    threshold = _verify_threshold(request, wanted, len(others))
    score = float(scores[nearest])
    note(request, photos=len(looked), subject_id=str(wanted.subject_id) if wanted.subject_id else None, match=score >= threshold)
    return answer(
        VerifyAnswer(
            match=score >= threshold,
            score=score,
            threshold=threshold,
            far=_far(request, threshold, len(others)),
            score_far=_far(request, score, len(others)),
            model=services(request).still.model,
            reference_id=references[nearest].reference_id if references else None,
            faces=[_verified(one) for one in looked],
        )
    )


async def _references(request: web.Request, subject_id: str) -> list[KnownVector]:
    """Return the embeddings of a granted subject's references. Raises NotFoundError, UnprocessableError."""
    behind = services(request)
    subject = await behind.gallery.subject(subject_id)
    if not principal(request).sees_collection(subject.collection):
        raise NotFoundError(f"subject '{subject_id}': there is none")
    known = await ReferenceVectors(behind.db, model=behind.still.model).of_subject(subject_id)
    if not known:
        raise UnprocessableError(f"subject {subject_id}: has no references to compare with; enrol one first")
    return known


def _verify_threshold(request: web.Request, wanted: VerifyForm, comparisons: int) -> float:
    policy = services(request).policy
    if wanted.threshold is not None:
        return wanted.threshold
    if wanted.far is not None:
        each = -math.expm1(math.log1p(-wanted.far) / comparisons)
        return policy.calibration.score_at(each, kind="single")
    return policy.single(comparisons)


def _far(request: web.Request, score: float, comparisons: int) -> float:
    far = services(request).policy.calibration.far(score, kind="single")
    return 1.0 if far >= 1 else -math.expm1(comparisons * math.log1p(-far))


def _verified(looked: Looked) -> VerifiedFace:
    quality = looked.at.qualities[0]
    x1, y1, x2, y2 = (float(value) for value in looked.at.faces.boxes[0])
    return VerifiedFace(box=(x1, y1, x2, y2), quality=quality.value, quality_reasons=list(quality.reasons))


async def _search_vector(request: web.Request, body: Filtered, vector: F32) -> web.Response:
    asked = await asked_of(request, body)
    found = await compare(request, vector[None], asked)
    evidence = services(request).still.judge.evidence(found, 0, Face(vector=vector, quality=GOOD, height_px=math.inf), asked.scope)
    decision = decide(evidence)
    shown = shown_of(evidence, decision)[: asked.k]
    note(request, collection=asked.wanted.collection, matches=int(decision.outcome == "subject"))
    return answer(
        ProbeAnswer(
            **_terms(request, asked, found, evidence.threshold),
            outcome=decision.outcome,
            reason=decision.reason,
            candidates=candidate_views(request, shown, evidence.threshold_of, found.references),
        )
    )


async def _nobody(request: web.Request, asked: Asked) -> MatchAnswer:
    """Return how large the gallery is, for a photo without faces."""
    references = (await ReferenceVectors(services(request).db, model=services(request).still.model).count(asked.wanted))[1]
    return MatchAnswer(candidates=(), generation=0, references=references)


def _terms(request: web.Request, asked: Asked, found: MatchAnswer, threshold: float) -> dict[str, Any]:
    return {
        "model": services(request).still.model,
        "collection": asked.wanted.collection,
        "references": found.references,
        "threshold": threshold,
        "fpir": fpir_of(request, threshold, found.references),
    }


def face_view(request: web.Request, face: FaceAnswer, references: int) -> FaceView:
    """Return a face as the API shows it."""

    def threshold(one: Candidate) -> float:
        return face.thresholds.get(one.subject_id, face.threshold)

    return FaceView(
        box=face.box,
        detector_score=face.detector_score,
        quality=face.quality.value,
        quality_reasons=list(face.quality.reasons),
        outcome=face.decision.outcome,
        reason=face.decision.reason,
        candidates=candidate_views(request, face.candidates, threshold, references),
    )
