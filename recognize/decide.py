"""Candidates become an outcome: a name, a stranger, or honestly neither. Pure.

A track's decision may improve but does not flap: a name is given at the threshold, kept while its score stays within a
margin below it, replaced only by a clearly better one, and after one change of mind a higher score is asked for.

Candidates may have thresholds of their own. The nearest one alone can be named: one behind it is not named because the nearest has
a stricter threshold. Who has opted out is matched and then dropped, which no later evidence takes back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from core.schema import SightingOutcome
from core.types import Candidate, Quality

KEEP_MARGIN = 0.05  # cosine; a fused embedding moves by less than this when one more shot of the same face joins
AMBIGUOUS_MARGIN = 0.02  # two subjects above the threshold and this close can't be told apart
MIN_QUALITY = 0.3  # over 82 % of genuine faces below it miss their threshold (embed/quality.py): no match then says nothing

FaceOutcome = SightingOutcome | Literal["opted_out"]
"""``opted_out``: a subject who must not be told of; it never leaves the process but as this word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a face or track when it is decided."""

    candidates: Sequence[Candidate]
    """Best first; empty when nobody is enrolled."""
    threshold: float
    """Of candidates without one of their own, and when there is nobody."""
    quality: Quality
    """Of the best shot."""
    height_px: float
    """Height of the largest face of the track."""
    min_height_px: float
    """Smaller faces are never named."""
    shards_missing: int = 0
    """Slices of the gallery that did not answer: whom they hold is unknown."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Subject id -> its own threshold."""
    rejected: Candidate | None = None
    """Who would be named, had not somebody said that this face is another's; not among the candidates."""
    opted_out: frozenset[str] = frozenset()
    """Subject ids of candidates who must not be told of."""
    weak_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Subject id -> watchlists whose own threshold its score does not reach."""

    def threshold_of(self, candidate: Candidate | None) -> float:
        """Return the score at which a candidate is named."""
        return self.threshold if candidate is None else self.thresholds.get(candidate.subject_id, self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of a face or track."""

    outcome: FaceOutcome
    reason: str
    """Why it is not a name: below_threshold, empty_gallery, rejected_pair, ambiguous, too_small, shards_missing, opted_out, or a quality
    reason; empty for a name."""
    best: Candidate | None
    """The named subject, else the nearest one, else None."""
    threshold: float
    """The cosine that was asked for in this decision: a name has at least this score."""
    changes: int = 0
    """How often a name was taken back or replaced."""
    weak_for: tuple[str, ...] = ()
    """Of a name: ids of watchlists whose own threshold it does not reach."""


def decide(evidence: Evidence) -> Decision:
    """Decide a single face, or a track for the first time."""
    return _opted_out(evidence, None) or _decide(evidence, 0.0)


def revise(before: Decision, evidence: Evidence) -> Decision:
    """Decide a track again, given what was said before.

    A name whose shard is away is kept: nothing speaks against it, and the track is asked again once every shard answers.
    """
    if before.outcome == "opted_out":
        return before
    if gone := _opted_out(evidence, before):
        return gone
    if before.outcome != "subject" or before.best is None:
        return replace(_decide(evidence, KEEP_MARGIN * before.changes), changes=before.changes)
    held = next((c for c in evidence.candidates if c.subject_id == before.best.subject_id), None)
    rejected = evidence.rejected is not None and evidence.rejected.subject_id == before.best.subject_id
    if held is None and evidence.shards_missing and not rejected:
        return before
    top = evidence.candidates[0] if evidence.candidates else None
    bound = evidence.threshold_of(held) - KEEP_MARGIN
    if held is not None and held.score >= bound and (top is None or top.score < held.score + KEEP_MARGIN):
        return replace(before, best=held, threshold=bound, weak_for=evidence.weak_for.get(held.subject_id, ()))
    changes = before.changes + 1
    return replace(_decide(evidence, KEEP_MARGIN * changes), changes=changes)


def _decide(evidence: Evidence, raised: float) -> Decision:
    """Decide by the thresholds, all of them raised by so much."""
    best = evidence.candidates[0] if evidence.candidates else None
    threshold = evidence.threshold_of(best) + raised

    def neither(outcome: SightingOutcome, reason: str) -> Decision:
        return Decision(outcome=outcome, reason=reason, best=best, threshold=threshold)

    if evidence.height_px < evidence.min_height_px:
        return neither("unclear", "too_small")
    if best is not None and _rivals(evidence, best, raised):
        return neither("unclear", "ambiguous")
    if best is not None and best.score >= threshold:
        weak = evidence.weak_for.get(best.subject_id, ())
        return Decision(outcome="subject", reason="", best=best, threshold=threshold, weak_for=weak)
    if evidence.shards_missing:
        return neither("unclear", "shards_missing")
    if evidence.rejected is not None:
        return neither("stranger", "rejected_pair")
    if evidence.quality.value < MIN_QUALITY and evidence.quality.reasons:
        return neither("unclear", evidence.quality.reasons[0])
    return neither("stranger", "empty_gallery" if best is None else "below_threshold")


def _rivals(evidence: Evidence, best: Candidate, raised: float) -> list[Candidate]:
    """Return who else reaches the threshold and can't be told apart from the nearest."""
    return [
        one
        for one in evidence.candidates[1:]
        if one.score >= evidence.threshold_of(one) + raised and best.score - one.score < AMBIGUOUS_MARGIN
    ]


def _opted_out(evidence: Evidence, before: Decision | None) -> Decision | None:
    """Return the decision to drop a face that is somebody's who has opted out, or can't be told apart from theirs.

    Who has a name already keeps it, unless one who has opted out comes nearer.
    """
    best = evidence.candidates[0] if evidence.candidates else None
    if best is None or not evidence.opted_out:
        return None
    held = before.best.subject_id if before is not None and before.outcome == "subject" and before.best is not None else None
    margin = 0.0 if held is not None and held not in evidence.opted_out else AMBIGUOUS_MARGIN
    for one in evidence.candidates:
        bound = evidence.threshold_of(one) - (KEEP_MARGIN if one.subject_id == held else 0.0)
        near = one is best or best.score - one.score < margin
        if one.subject_id in evidence.opted_out and one.score >= bound and near:
            return Decision(outcome="opted_out", reason="opted_out", best=None, threshold=evidence.threshold_of(one))
    return None
