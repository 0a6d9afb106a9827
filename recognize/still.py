"""Who is in one picture: each face with its candidates and an honest outcome. Used by identify, search and the API."""

from dataclasses import dataclass

from core.ports import Matcher
from core.types import Candidate, Faces, Image, Quality
from recognize.decide import Decision, Evidence, decide
from recognize.threshold import ThresholdPolicy
from recognize.vision import Vision


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceAnswer:
    """One face of a picture."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the picture."""
    detector_score: float
    quality: Quality
    decision: Decision
    threshold: float
    fpir: float | None
    """Chance that a stranger's best candidate reaches the score of this face's best one, in this gallery; None without candidates."""
    candidates: tuple[Candidate, ...]


class StillRecognizer:
    """Recognizes single pictures. Thread rule: any number of tasks of one event loop; the models run in Vision's thread."""

    def __init__(self, *, vision: Vision, matcher: Matcher, policy: ThresholdPolicy) -> None:
        self._vision = vision
        self._matcher = matcher
        self._policy = policy

    async def recognize(
        self, image: Image, *, collection: str | None = None, k: int = 5, threshold: float | None = None
    ) -> list[FaceAnswer]:
        """Find, embed and look up each face of a picture ((H, W, 3) uint8 RGB), best detector score first.

        Args:
            image: the picture.
            collection: the gallery to ask; None = the settings' one.
            k: candidates a face.
            threshold: cosine at which a face is named; None = the calibrated one.

        Raises:
            UnavailableError: when the matcher does not answer.
        """
        look = await self._vision.call(self._vision.look_photo, image)
        if not len(look.faces):
            return []
        embeddings = await self._vision.call(self._vision.embed, image, look.faces)
        settings = self._policy.settings
        answer = await self._matcher.search(
            embeddings.vectors, model=embeddings.model, collection=collection or settings.collection, k=max(2, k)
        )
        bound = self._policy.single(answer.references) if threshold is None else threshold
        return [
            self._answer(look.faces, i, look.qualities[i], answer.candidates[i], (bound, answer.references, k))
            for i in range(len(look.faces))
        ]

    def _answer(
        self, faces: Faces, index: int, quality: Quality, candidates: tuple[Candidate, ...], asked: tuple[float, int, int]
    ) -> FaceAnswer:
        threshold, references, k = asked
        x1, y1, x2, y2 = (float(v) for v in faces.boxes[index])
        evidence = Evidence(
            candidates=candidates,
            threshold=threshold,
            quality=quality,
            height_px=y2 - y1,
            min_height_px=self._policy.settings.min_face_px,
        )
        calibration = self._policy.calibration
        return FaceAnswer(
            box=(x1, y1, x2, y2),
            detector_score=float(faces.scores[index]),
            quality=quality,
            decision=decide(evidence),
            threshold=threshold,
            fpir=calibration.fpir(candidates[0].score, kind="single", gallery_size=references) if candidates else None,
            candidates=candidates[:k],
        )
