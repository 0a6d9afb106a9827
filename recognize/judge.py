"""What is known of a face, with the rules in force: what recognize.decide decides from."""

from dataclasses import dataclass

from core.ports import MatchAnswer
from core.types import F32, Quality
from recognize.decide import Evidence
from recognize.rules.rules import Probe, Rulebook, Scope
from recognize.threshold import ThresholdPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A face or track that was looked up."""

    vector: F32
    """(D,) float32, L2 norm 1."""
    quality: Quality
    height_px: float
    agreement: float | None = None
    """Of a track's shots; None = a single face."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Thread rule: one event loop, that of the rulebook."""

    policy: ThresholdPolicy
    book: Rulebook
    model: str
    """Id of the embedding model."""

    def evidence(self, answer: MatchAnswer, row: int, face: Face, scope: Scope) -> Evidence:
        """Return what a gallery's answer means for the face in its ``row``, by the rules as they are now."""
        probe = Probe(vector=face.vector, model=self.model, references=answer.references, agreement=face.agreement)
        weighed = self.book.now.weigh(self.policy, scope, probe, answer.candidates[row])
        return Evidence(
            candidates=weighed.candidates,
            threshold=weighed.threshold,
            thresholds=weighed.thresholds,
            rejected=weighed.rejected,
            opted_out=weighed.opted_out,
            weak_for=weighed.weak_for,
            quality=face.quality,
            height_px=face.height_px,
            min_height_px=self.policy.settings.min_face_px,
            shards_missing=answer.shards_missing,
        )
