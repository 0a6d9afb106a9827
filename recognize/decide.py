"""Candidates become an outcome: a name, a stranger, or honestly neither. Pure.

A track's decision may improve but does not flap: a name is given at the threshold, kept while its score stays within a
margin below it, replaced only by a clearly better one, and after one change of mind a higher score is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.schema import SightingOutcome
from core.types import Candidate, Quality

KEEP_MARGIN = 0.05  # cosine; a fused embedding moves by less than this when one more shot of the same face joins
AMBIGUOUS_MARGIN = 0.02  # two subjects above the threshold and this close can't be told apart
MIN_QUALITY = 0.3  # over 82 % of genuine faces below it miss their threshold (embed/quality.py): no match then says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a face or track when it is decided."""

    candidates: Sequence[Candidate]
    """Best first; empty when nobody is enrolled."""
    threshold: float
    quality: Quality
    """Of the best shot."""
    height_px: float
    """Height of the largest face of the track."""
    min_height_px: float
    """Smaller faces are never named."""
    shards_missing: int = 0
    """Slices of the gallery that did not answer: whom they hold is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of a face or track."""

    outcome: SightingOutcome
    reason: str
    """Why it is not a name: below_threshold, empty_gallery, ambiguous, too_small, shards_missing, or a quality reason; empty for a name."""
    best: Candidate | None
    """The named subject, else the nearest one, else None."""
    threshold: float
    """The cosine that was asked for in this decision: a name has at least this score."""
    changes: int = 0
    """How often a name was taken back or replaced."""


def decide(evidence: Evidence) -> Decision:
    """Decide a single face, or a track for the first time."""
    return _decide(evidence, evidence.threshold)


def revise(before: Decision, evidence: Evidence) -> Decision:
    """Decide a track again, given what was said before.

    A name whose shard is away is kept: nothing speaks against it, and the track is asked again once every shard answers.
    """
    if before.outcome != "subject" or before.best is None:
        fresh = _decide(evidence, evidence.threshold + KEEP_MARGIN * before.changes)
        return replace(fresh, changes=before.changes)
    held = next((c for c in evidence.candidates if c.subject_id == before.best.subject_id), None)
    if held is None and evidence.shards_missing:
        return before
    top = evidence.candidates[0] if evidence.candidates else None
    if held is not None and held.score >= evidence.threshold - KEEP_MARGIN and (top is None or top.score < held.score + KEEP_MARGIN):
        return replace(before, best=held, threshold=evidence.threshold - KEEP_MARGIN)
    changes = before.changes + 1
    return replace(_decide(evidence, evidence.threshold + KEEP_MARGIN * changes), changes=changes)


def _decide(evidence: Evidence, threshold: float) -> Decision:
    best = evidence.candidates[0] if evidence.candidates else None
    if evidence.height_px < evidence.min_height_px:
        return Decision(outcome="unclear", reason="too_small", best=best, threshold=threshold)
    if best is not None and best.score >= threshold:
        second = evidence.candidates[1] if len(evidence.candidates) > 1 else None
        if second is not None and second.score >= threshold and best.score - second.score < AMBIGUOUS_MARGIN:
            return Decision(outcome="unclear", reason="ambiguous", best=best, threshold=threshold)
        return Decision(outcome="subject", reason="", best=best, threshold=threshold)
    if evidence.shards_missing:
        return Decision(outcome="unclear", reason="shards_missing", best=best, threshold=threshold)
    if evidence.quality.value < MIN_QUALITY and evidence.quality.reasons:
        return Decision(outcome="unclear", reason=evidence.quality.reasons[0], best=best, threshold=threshold)
    reason = "empty_gallery" if best is None else "below_threshold"
    return Decision(outcome="stranger", reason=reason, best=best, threshold=threshold)
