"""Who a face is, now that somebody said who it is not: by the gallery and the rules."""

from dataclasses import replace

from aiohttp import web

from api.services import services
from core.errors import UnavailableError
from core.types import Quality
from recognize.decide import decide
from recognize.judge import Face, Judge
from recognize.rules.rules import Scope
from recognize.threshold import TRACK_AGREEMENT
from sightings.feedback import JudgedFace
from sightings.taking import Renamed

CANDIDATES = 5


async def who_instead(request: web.Request, face: JudgedFace, wrong_id: str) -> Renamed:
    """Return what a sighting becomes without a name: the next candidate where that one reaches its threshold, else a stranger."""
    behind = services(request)
    if face.embedding is None or face.model != behind.policy.calibration.model:
        return Renamed()
    try:
        answer = await behind.matcher.search(face.embedding[None], model=face.model, collection=face.collection, k=CANDIDATES)
    except UnavailableError:
        return Renamed()
    others = tuple(one for one in answer.candidates[0] if one.subject_id != wrong_id)  # whatever the exemplar's score: it was said
    judge = Judge(policy=behind.policy, book=behind.book, model=face.model)
    # how much its shots agreed is not stored: the strictest is assumed
    seen = Face(vector=face.embedding, quality=Quality(value=face.quality, reasons=()), height_px=float("inf"), agreement=TRACK_AGREEMENT)
    decision = decide(judge.evidence(replace(answer, candidates=(others,)), 0, seen, Scope(collection=face.collection, camera=face.camera)))
    if decision.outcome != "subject" or decision.best is None:
        return Renamed(score=decision.best.score if decision.best else None, threshold=decision.threshold)
    best = decision.best
    return Renamed(
        outcome="subject",
        reason="",
        subject_id=best.subject_id,
        subject=best.subject,
        reference_id=best.reference_id,
        score=best.score,
        threshold=decision.threshold,
        weak_for=decision.weak_for,
    )
