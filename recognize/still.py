"""Who is in one picture: each face with its candidates and an honest outcome. Used by identify, search and the API."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.ports import MatchAnswer, Matcher
from core.types import F32, Candidate, Embeddings, Faces, Image, Quality
from recognize.decide import Decision, Evidence, decide
from recognize.judge import Face, Judge
from recognize.rules.rules import Rulebook, Scope
from recognize.rules.target import Target
from recognize.threshold import ThresholdPolicy
from recognize.vision import Vision

SPARE = 3  # candidates asked for beyond k, in place of those who are left out


Pick = Callable[[Faces, Image], NDArray[Any]]
"""Says which faces of a picture count: their indices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAt:
    """The faces of a picture, embedded, best detector score first."""

    faces: Faces
    qualities: tuple[Quality, ...]
    embeddings: Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceAnswer:
    """One face of a picture."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the picture."""
    landmarks: tuple[tuple[float, float], ...]
    """Both eyes, nose, both corners of the mouth: the image's left first."""
    detector_score: float
    quality: Quality
    embedding: F32
    """(D,) float32, norm 1; zero where the model gave no direction."""
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

    @property
    def model(self) -> str:
        """The embedder in use."""
        return self._policy.calibration.model

    async def boxes(self, image: Image) -> F32:
        """Return where the faces of a picture ((H, W, 3) uint8 RGB) are: (n, 4) float32, best first. Raises ModelError."""
        return (await self._vision.call(self._vision.look_photo, image)).faces.boxes

    def scope(self, collection: str | None = None, request: Target | None = None) -> Scope:
        """Return what is asked for: by default the settings' gallery, by the rules."""
        return Scope(collection=collection or self._policy.settings.collection, request=request)

    async def look(self, image: Image, *, pick: Pick | None = None) -> LookedAt:
        """Find, judge and embed the faces of a picture ((H, W, 3) uint8 RGB). Raises ModelError.

        Args:
            image: the picture.
            pick: which faces count; None = all. The others are not embedded.
        """
        look = await self._vision.call(self._vision.look_photo, image)
        faces, qualities = look.faces, list(look.qualities)
        if pick is not None and len(faces):
            chosen = pick(faces, image)
            faces, qualities = faces.take(chosen), [qualities[int(index)] for index in chosen]
        embeddings = await self._vision.call(self._vision.embed, image, faces, qualities) if len(faces) else self._nothing()
        return LookedAt(faces=faces, qualities=tuple(qualities), embeddings=embeddings)

    async def compare(self, vectors: F32, collection: str, *, k: int) -> MatchAnswer:
        """Return the nearest subjects of each face (N, D): k, and some in place of those who will be left out. Raises UnavailableError."""
        return await self._matcher.search(vectors, model=self.model, collection=collection, k=max(2, k) + SPARE)

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
        looked = await self.look(image)
        if not len(looked.faces):
            return []
        scope = self.scope(collection, None if threshold is None else Target(score=threshold))
        return self.decide(looked, await self.compare(looked.embeddings.vectors, scope.collection, k=k), scope, k=k)

    def decide(self, looked: LookedAt, answer: MatchAnswer, scope: Scope, *, k: int) -> list[FaceAnswer]:
        """Return what each face turned out to be, by the rules as they are now.

        Args:
            looked: the faces.
            answer: what they were compared with.
            scope: what was asked for.
            k: candidates a face.
        """
        return [self._answer(looked, index, answer, scope, k) for index in range(len(looked.faces))]

    def _nothing(self) -> Embeddings:
        return Embeddings(model=self.model, vectors=np.zeros((0, 0), np.float32), norms=np.zeros(0, np.float32))

    def _answer(self, looked: LookedAt, index: int, answer: MatchAnswer, scope: Scope, k: int) -> FaceAnswer:
        faces, quality, vector = looked.faces, looked.qualities[index], looked.embeddings.vectors[index]
        x1, y1, x2, y2 = (float(v) for v in faces.boxes[index])
        evidence = self.judge.evidence(answer, index, Face(vector=vector, quality=quality, height_px=y2 - y1), scope)
        decision, policy = decide(evidence), self._policy
        shown = shown_of(evidence, decision)
        top = shown[0].score if shown else None
        return FaceAnswer(
            box=(x1, y1, x2, y2),
            landmarks=tuple((float(x), float(y)) for x, y in faces.landmarks[index]),
            embedding=vector,
            detector_score=float(faces.scores[index]),
            quality=quality,
            decision=decision,
            threshold=evidence.threshold,
            thresholds=evidence.thresholds,
            fpir=None if top is None else policy.calibration.fpir(top, kind="single", gallery_size=answer.references),
            candidates=shown[:k],
        )


def shown_of(evidence: Evidence, decision: Decision) -> tuple[Candidate, ...]:
    """Return the candidates that may be told of, ranked without gaps: none where somebody has opted out and is meant."""
    left = [] if decision.outcome == "opted_out" else [one for one in evidence.candidates if one.subject_id not in evidence.opted_out]
    return ranked(left)


def ranked(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return candidates ranked anew, without the gaps of those who were left out."""
    return tuple(replace(one, rank=rank) for rank, one in enumerate(candidates, 1))
