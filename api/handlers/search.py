"""Who is on this photo?"""

from functools import partial

import numpy as np
from aiohttp import web

from api.models import CandidateView, FaceView, SearchAnswer, SearchForm
from api.photo import PhotoFaces
from api.route import answer
from api.services import services, work
from api.uploads import check, read_form
from core.errors import UsageError
from core.ports import MatchAnswer
from core.types import Candidate
from recognize.decide import Evidence, decide
from recognize.threshold import ThresholdPolicy

MIN_CANDIDATES = 2  # asked for at least, so that two subjects too close to tell apart are noticed


async def search(request: web.Request) -> web.Response:
    """Look up the faces of a photo in the gallery."""
    behind = services(request)
    form = await read_form(request, file_field="photo", max_bytes=behind.settings.api.max_upload_bytes)
    if len(form.files) > 1:
        raise UsageError(f"{len(form.files)} photos: send one a request")
    (upload,) = form.files
    wanted = check(SearchForm, {**form.fields, "photo": b""}, where="form")
    if wanted.threshold is not None and wanted.fpir is not None:
        raise UsageError("threshold and fpir: give one of them")
    photo = await work(request).run(partial(behind.photos.read, upload.data, name=upload.name))
    matched = await _match(request, photo, max(wanted.k, MIN_CANDIDATES))
    threshold = _threshold(wanted, behind.policy, matched.references)
    faces = [_face(behind.policy, photo, row, matched, threshold=threshold, k=wanted.k) for row in range(len(photo.faces))]
    return answer(
        SearchAnswer(
            width_px=photo.width_px,
            height_px=photo.height_px,
            model=photo.embeddings.model,
            references=matched.references,
            threshold=threshold,
            fpir=_fpir(behind.policy, threshold, matched.references),
            shards_missing=matched.shards_missing,
            faces=faces,
        )
    )


async def _match(request: web.Request, photo: PhotoFaces, k: int) -> MatchAnswer:
    """Ask the matcher, also for no faces at all, so that the answer says how large the gallery is."""
    behind = services(request)
    return await behind.matcher.search(
        photo.embeddings.vectors, model=photo.embeddings.model, collection=behind.settings.recognize.collection, k=k
    )


def _threshold(wanted: SearchForm, policy: ThresholdPolicy, references: int) -> float:
    if wanted.threshold is not None:
        return wanted.threshold
    if wanted.fpir is not None:
        return policy.calibration.threshold(kind="single", fpir=wanted.fpir, gallery_size=references)
    return policy.single(references)


def _fpir(policy: ThresholdPolicy, score: float, references: int) -> float:
    return policy.calibration.fpir(score, kind="single", gallery_size=references) if references else 0.0


def _face(policy: ThresholdPolicy, photo: PhotoFaces, row: int, matched: MatchAnswer, *, threshold: float, k: int) -> FaceView:
    box = photo.faces.boxes[row]
    evidence = Evidence(
        candidates=matched.candidates[row],
        threshold=threshold,
        quality=photo.qualities[row],
        height_px=float(box[3] - box[1]),
        min_height_px=policy.settings.min_face_px,
    )
    decision = decide(evidence)
    return FaceView(
        box=tuple(float(value) for value in box),
        landmarks=[(float(x), float(y)) for x, y in photo.faces.landmarks[row]],
        detector_score=float(photo.faces.scores[row]),
        quality=photo.qualities[row].value,
        quality_reasons=list(photo.qualities[row].reasons),
        outcome=decision.outcome,
        reason=decision.reason,
        candidates=[_candidate(policy, one, threshold, matched.references) for one in matched.candidates[row][:k]],
    )


def _candidate(policy: ThresholdPolicy, one: Candidate, threshold: float, references: int) -> CandidateView:
    return CandidateView(
        rank=one.rank,
        subject_id=one.subject_id,
        subject=one.subject,
        reference_id=one.reference_id,
        score=float(np.float32(one.score)),
        match=one.score >= threshold,
        fpir=_fpir(policy, one.score, references),
    )
