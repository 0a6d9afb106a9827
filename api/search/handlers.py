"""Who is on this photo?"""

import asyncio
from functools import partial

from aiohttp import web

from api.route import answer
from api.search.models import CandidateView, FaceView, SearchAnswer, SearchForm
from api.services import SEARCHING, services
from api.uploads import check, read_form
from core.errors import UsageError
from core.photo import decode_photo
from core.types import Candidate
from recognize.still import FaceAnswer
from recognize.threshold import ThresholdPolicy


async def search(request: web.Request) -> web.Response:
    """Look up the faces of a photo in the gallery."""
    behind = services(request)
    form = await read_form(request, file_field="photo", max_bytes=behind.settings.api.max_upload_bytes)
    if len(form.files) > 1:
        raise UsageError(f"{len(form.files)} photos: send one a request")
    wanted = check(SearchForm, {**form.fields, "photo": b""}, where="form")
    collection = behind.settings.recognize.collection
    references = (await behind.gallery.counts(collection)).references
    threshold = _threshold(wanted, behind.policy, references)
    (upload,) = form.files
    async with request.app[SEARCHING].turn():
        image = await asyncio.to_thread(decode_photo, upload.data, name=upload.name)
        faces = await behind.still.recognize(image, collection=collection, k=wanted.k, threshold=threshold)
    fpir = partial(_fpir, behind.policy, references=references)
    return answer(
        SearchAnswer(
            width_px=image.shape[1],
            height_px=image.shape[0],
            model=behind.policy.calibration.model,
            references=references,
            threshold=threshold,
            fpir=fpir(threshold),
            faces=[_face(face, [_candidate(one, threshold, fpir(one.score)) for one in face.candidates]) for face in faces],
        )
    )


def _threshold(wanted: SearchForm, policy: ThresholdPolicy, references: int) -> float:
    if wanted.threshold is not None and wanted.fpir is not None:
        raise UsageError("threshold and fpir: give one of them")
    if wanted.threshold is not None:
        return wanted.threshold
    if wanted.fpir is not None:
        return policy.calibration.threshold(kind="single", fpir=wanted.fpir, gallery_size=references)
    return policy.single(references)


def _fpir(policy: ThresholdPolicy, score: float, *, references: int) -> float:
    return policy.calibration.fpir(score, kind="single", gallery_size=references) if references else 0.0


def _face(face: FaceAnswer, candidates: list[CandidateView]) -> FaceView:
    return FaceView(
        box=face.box,
        detector_score=face.detector_score,
        quality=face.quality.value,
        quality_reasons=list(face.quality.reasons),
        outcome=face.decision.outcome,
        reason=face.decision.reason,
        candidates=candidates,
    )


def _candidate(one: Candidate, threshold: float, fpir: float) -> CandidateView:
    return CandidateView(
        rank=one.rank,
        subject_id=one.subject_id,
        subject=one.subject,
        reference_id=one.reference_id,
        score=one.score,
        match=one.score >= threshold,
        fpir=fpir,
    )
