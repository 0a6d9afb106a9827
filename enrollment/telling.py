"""What is told of a photo: outcomes and warnings. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from core.types import Candidate
from enrollment.judge import Policy, Rejection
from enrollment.record import Known, Outcome, Photo, Warned
from enrollment.references import reference_id_of


def rejected(photo: Photo, rejection: Rejection) -> Outcome:
    """Return the outcome of a photo that can't be enrolled."""
    return Outcome(file=photo.file, subject=photo.subject, status="rejected", reason=rejection.reason, detail=rejection.detail)


def newest(outcomes: Iterable[Outcome]) -> int | None:
    """Return the generation of the last change that these made; None where nothing changed."""
    return max((outcome.generation for outcome in outcomes if outcome.generation is not None), default=None)


def known_outcome(photo: Photo, known: Sequence[Known], sha256: bytes) -> Outcome | None:
    """Return what becomes of a photo whose content is in the gallery; None when it must be looked at.

    Of a photo with several faces each may be somebody's: where a face is chosen, content alone decides only if that face is enrolled.
    """
    if isinstance(photo.face, int):
        own = next(
            (k for k in known if k.reference_id == str(reference_id_of(k.subject_id, sha256, photo.face or 0)) and _is_own(photo, k)), None
        )
        return _unchanged(photo, own) if own is not None and own.embedded else None
    if photo.face is not None:
        return None
    own = next((k for k in known if _is_own(photo, k) and k.embedded), None)
    if own is not None and PurePath(own.source).name == PurePath(photo.file).name:
        return _unchanged(photo, own)
    if own is not None:
        words = f"{photo.subject} has exactly this picture already, from {own.source}"
        return replace(rejected(photo, Rejection(reason="duplicate_of_same_subject", detail=words)), quality=own.quality)
    other = next((k for k in known if not _is_own(photo, k)), None)
    if other is None:
        return None
    words = f"exactly this picture is enrolled as {other.subject}, from {other.source}; use that name, or erase it there first"
    warned = Warned(kind="duplicate", subject_id=other.subject_id, subject=other.subject, reference_id=other.reference_id, score=1.0)
    return replace(rejected(photo, Rejection(reason="duplicate", detail=words)), quality=other.quality, warnings=(warned,))


def lookalikes(candidates: Sequence[Candidate], *, subject: str, policy: Policy) -> tuple[Warned, ...]:
    """Return the other subjects whom a face looks like, best first."""
    best: dict[str, Candidate] = {}
    for one in sorted(candidates, key=lambda candidate: -candidate.score):
        if one.subject != subject and one.score >= policy.lookalike_score:
            best.setdefault(one.subject_id, one)
    return tuple(
        Warned(
            kind="lookalike",
            subject_id=one.subject_id,
            subject=one.subject,
            reference_id=one.reference_id,
            score=round(one.score, 4),
        )
        for one in best.values()
    )


def _is_own(photo: Photo, known: Known) -> bool:
    return known.subject_id == photo.subject_id if photo.subject_id else known.subject == photo.subject


def _unchanged(photo: Photo, own: Known) -> Outcome:
    return Outcome(
        file=photo.file,
        subject=photo.subject,
        status="unchanged",
        quality=own.quality,
        subject_id=own.subject_id,
        reference_id=own.reference_id,
    )
