"""May this photo be enrolled, and by which of its faces? Pure: no models, no clock, no database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from core.types import F32, Candidate, Faces, Quality
from embed.quality import describe
from enrollment.record import Reason

DOMINANCE: Final = 2.5
"""A face is the photo's subject when it weighs more than this many times any other. Of 67 press photos, the portraits with people in the
background lie at 3.1, 8.9 and 26; a couple and a group selfie at 1.0."""
EDGE_WEIGHT: Final = 0.4  # of a face in a corner, against one in the middle


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is good enough. The default takes every photo with which recognition still works."""

    min_face_px: float = 32.0
    """Height of the face's box in pixels of the working copy."""
    min_quality: float = 0.1
    lookalike_score: float
    """Cosine from which on a face counts as another subject's."""
    same_picture_score: float
    """Cosine from which on a face adds nothing to what its subject has."""
    allow_lookalike: bool = False
    """Enrol although the face looks like another subject (twins)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why not."""

    reason: Reason
    detail: str


def choose_face(faces: Faces, *, width_px: int, height_px: int) -> int | Rejection:
    """Return the index of the photo's subject: the only face, or the one that outweighs all others by DOMINANCE."""
    if not len(faces):
        return Rejection(reason="no_face", detail="no face was found; use a photo that shows one, from the front and upright")
    weights = face_weights(faces, width_px, height_px)
    best = int(np.argmax(weights))
    others = np.delete(weights, best)
    if len(others) and weights[best] <= DOMINANCE * others.max():
        rivals = 1 + int(np.count_nonzero(others * DOMINANCE >= weights[best]))
        return Rejection(reason="several_faces", detail=f"{rivals} faces of like size; crop the photo to the one person")
    return best


def pick_face(faces: Faces, wanted: int | tuple[float, float]) -> int | Rejection:
    """Return the index of the face that somebody chose: its index, or a point inside its box (of several, the smallest)."""
    if not len(faces):
        return Rejection(reason="no_face", detail="no face was found; use a photo that shows one, from the front and upright")
    if isinstance(wanted, int):
        if wanted < len(faces):
            return wanted
        return Rejection(reason="no_such_face", detail=f"the photo has {len(faces)} faces, counted from 0; there is none of index {wanted}")
    x, y = wanted
    low, high = faces.boxes[:, :2], faces.boxes[:, 2:]
    inside = np.flatnonzero(((low <= (x, y)) & (high >= (x, y))).all(axis=1))
    if not len(inside):
        return Rejection(
            reason="no_such_face", detail="no face is at this point; give one inside a face's box, in pixels of the upright photo"
        )
    return int(inside[np.argmin(np.prod(high[inside] - low[inside], axis=1))])


def face_weights(faces: Faces, width_px: int, height_px: int) -> F32:
    """Return (N,) float32: how much each face is the photo's subject, by visible area, detector score and nearness to the middle."""
    size = np.array([width_px, height_px], np.float32)
    low, high = np.clip(faces.boxes[:, :2], 0, size), np.clip(faces.boxes[:, 2:], 0, size)
    area = np.prod(np.maximum(high - low, 0), axis=1)
    off_centre = np.linalg.norm(((low + high) / 2 - size / 2) / (size / 2), axis=1) / np.sqrt(2)  # 0 in the middle .. 1 in a corner
    return np.asarray(area * faces.scores * (1 - (1 - EDGE_WEIGHT) * np.clip(off_centre, 0, 1)), np.float32)


def judge_quality(quality: Quality, face_height_px: float, policy: Policy) -> Rejection | None:
    """Return why a face is too poor, or None. ``face_height_px`` counts pixels of the working copy, which the models see."""
    if face_height_px < policy.min_face_px:
        needed = f"at least {policy.min_face_px:.0f} are needed"
        words = f"the face is {face_height_px:.0f} pixels high, {needed}; crop nearer to it, or use a larger photo"
        return Rejection(reason="too_small", detail=words)
    if quality.value >= policy.min_quality:
        return None
    worst = quality.reasons[0] if quality.reasons else "low_detector_score"
    return Rejection(reason=cast(Reason, worst), detail=describe(worst))


def judge_identity(candidates: Sequence[Candidate], *, subject: str, policy: Policy) -> Rejection | None:
    """Return why a face belongs to somebody else or is there already, or None.

    A face that is nearer to its own subject's references than to anybody else's is never taken for another's.

    Args:
        candidates: nearest subjects of the collection, best first.
        subject: the name to enrol under, unique in the collection.
        policy: the scores from which on faces count as alike.
    """
    own = max((c.score for c in candidates if c.subject == subject), default=-1.0)
    other = max((c for c in candidates if c.subject != subject), key=lambda c: c.score, default=None)
    if own >= policy.same_picture_score:
        words = f"{subject} has nearly this picture already ({own:.3f}); a different photo would add more"
        return Rejection(reason="duplicate_of_same_subject", detail=words)
    if other is not None and not policy.allow_lookalike and other.score >= policy.lookalike_score and other.score > own:
        words = f"looks like {other.subject} ({other.score:.3f}, alike from {policy.lookalike_score:.3f}); {_mend(subject, other.subject)}"
        return Rejection(reason="looks_like_another_subject", detail=words)
    return None


def _mend(subject: str, other: str) -> str:
    if without_number(subject) == without_number(other):
        return f"if they are photos of one person, use --numbered, or a folder '{without_number(subject)}'"
    return "if it is that person, use that name; if they are two, use --allow-lookalike"


def without_number(name: str) -> str:
    """Return a name without a number at its end that a dash, underscore, blank or bracket sets off: alice_1, alice-02, alice (3)."""
    stem = name.rstrip()
    if stem.endswith(")"):
        head, _, tail = stem[:-1].rpartition("(")
        return head.rstrip(" _-") if head.strip(" _-") and _is_number(tail) else name
    head = stem.rstrip("0123456789")
    return head.rstrip(" _-") if head != stem and head[-1:] in ("_", "-", " ") and head.strip(" _-") else name


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
