"""Who is in one picture: each face with its candidates and an honest outcome. Used by identify, search and the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.ports import MatchAnswer, Matcher
from core.types import F32, Candidate, Faces, Image, Quality
from recognize.decide import Decision, decide
from recognize.judge import Face, Judge
from recognize.rules.rules import Rulebook, Scope
from recognize.rules.target import Target
from recognize.threshold import ThresholdPolicy
from recognize.vision import Vision

SPARE = 3  # candidates asked for beyond k, in place of those who are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceAnswer:
    """One face of a picture."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the picture."""
    detector_score: float
    quality: Quality
    decision: Decision
    """``opted_out``: somebody who must not be told of; without candidates, and no picture of it may be kept."""
    threshold: float
    """Of anybody without a threshold of their own."""
    thresholds: Mapping[str, float]
    """Subject id -> the threshold of that candidate."""
    fpir: float | None
    """Chance that a stranger's best candidate reaches the score of this face's best one, in this gallery; None without candidates."""
    candidates: tuple[Candidate, ...]
    """Without those who have opted out, and those whom somebody said this face is not."""


class StillRecognizer:
    """Recognizes single pictures. Thread rule: any number of tasks of one event loop; the models run in Vision's thread."""

    def __init__(self, *, vision: Vision, matcher: Matcher, policy: ThresholdPolicy, book: Rulebook | None = None) -> None:
        self._vision = vision
        self._matcher = matcher
        self._policy = policy
        self.judge = Judge(policy=policy, book=book or Rulebook(), model=vision.embedder.model)
        """Weighs candidates by the rules in force; for probes that come without a picture too."""

    async def recognize(
        self, image: Image, *, collection: str | None = None, k: int = 5, threshold: float | None = None
    ) -> list[FaceAnswer]:
        """Find, embed and look up each face of a picture ((H, W, 3) uint8 RGB), best detector score first.

        Args:
            image: the picture.
            collection: the gallery to ask; None = the settings' one.
            k: candidates a face.
            threshold: cosine at which a face is named, whatever the rules say; None = as the rules say.

        Raises:
            UnavailableError: when the matcher does not answer.
        """
        look = await self._vision.call(self._vision.look_photo, image)
        if not len(look.faces):
            return []
        embeddings = await self._vision.call(self._vision.embed, image, look.faces)
        scope = Scope(
            collection=collection or self._policy.settings.collection, request=None if threshold is None else Target(score=threshold)
        )
        answer = await self._matcher.search(embeddings.vectors, model=embeddings.model, collection=scope.collection, k=max(2, k) + SPARE)
        return [self._answer(look.faces, i, (embeddings.vectors[i], look.qualities[i], k), answer, scope) for i in range(len(look.faces))]

    def _answer(self, faces: Faces, index: int, of: tuple[F32, Quality, int], answer: MatchAnswer, scope: Scope) -> FaceAnswer:
        vector, quality, k = of
        x1, y1, x2, y2 = (float(v) for v in faces.boxes[index])
        evidence = self.judge.evidence(answer, index, Face(vector=vector, quality=quality, height_px=y2 - y1), scope)
        decision, policy = decide(evidence), self._policy
        shown = [] if decision.outcome == "opted_out" else [one for one in evidence.candidates if one.subject_id not in evidence.opted_out]
        top = shown[0].score if shown else None
        return FaceAnswer(
            box=(x1, y1, x2, y2),
            detector_score=float(faces.scores[index]),
            quality=quality,
            decision=decision,
            threshold=evidence.threshold,
            thresholds=evidence.thresholds,
            fpir=None if top is None else policy.calibration.fpir(top, kind="single", gallery_size=answer.references),
            candidates=ranked(shown)[:k],
        )


def ranked(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return candidates ranked anew, without the gaps of those who were left out."""
    return tuple(replace(one, rank=rank) for rank, one in enumerate(candidates, 1))
