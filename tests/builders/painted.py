"""Builders of painted people: a scene whose faces a tiny detector and embedder really find in the pixels, even after JPEG.

A person is a noisy square whose blue channel says who it is; everything else is black there. So the platform's own code runs on
pictures, without models and without mocks.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from core.ports import MatchAnswer
from core.types import F32, U8, Candidate, Embeddings, Faces, Image

BLUE_STEP = 40
DIMENSIONS = 128
LANDMARKS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)


def painted(people: Mapping[int, tuple[int, int]], *, size_px: int = 80, width_px: int = 640, height_px: int = 360) -> Image:
    """Return a frame with people (1..6) at the given top left corners."""
    image = np.zeros((height_px, width_px, 3), np.uint8)
    for person, (x, y) in people.items():
        texture = np.random.default_rng(person).integers(0, 255, (size_px // 4, size_px // 4), np.uint8)
        grey = cv2.resize(texture, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        image[y : y + size_px, x : x + size_px] = np.dstack([grey, grey, np.full_like(grey, person * BLUE_STEP)])
    return image


class PaintedDetector:
    """Finds painted people; core port detect.detector.Detector."""

    name = "painted"

    def scale_of(self, image: Image) -> float:
        return 1.0

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> Faces:
        mask = (image[..., 2] > BLUE_STEP // 2).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        boxes = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:count] if area > 400]
        array = np.array(sorted(boxes), np.float32).reshape(-1, 4)
        corner, size = array[:, None, :2], array[:, None, 2:] - array[:, None, :2]
        return Faces(boxes=array, landmarks=(corner + LANDMARKS * size).astype(np.float32), scores=np.full(len(array), 0.95, np.float32))


def vector_of(person: int) -> F32:
    """Return the (DIMENSIONS,) unit embedding of a painted person."""
    vector = np.random.default_rng(1000 + person).standard_normal(DIMENSIONS)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class PaintedEmbedder:
    """Reads who a painted person is; stands where embed.embedder.Embedder stands."""

    model = "painted"
    dimensions = DIMENSIONS

    def chips(self, image: Image, landmarks: F32) -> U8:
        noses = landmarks[:, 2].astype(int)
        return np.stack([image[y - 4 : y + 4, x - 4 : x + 4] for x, y in noses]) if len(noses) else np.zeros((0, 8, 8, 3), np.uint8)

    def views(self, image: Image, landmarks: F32, *, clear: bool = False) -> U8:
        return self.chips(image, landmarks)[:, None]

    def embed_views(self, views: U8) -> Embeddings:
        return self.embed(views[:, 0])

    def embed(self, chips: U8) -> Embeddings:
        people = [round(float(np.median(chip[..., 2])) / BLUE_STEP) for chip in chips]
        vectors = np.stack([vector_of(person) for person in people])
        return Embeddings(model=self.model, vectors=vectors, norms=np.ones(len(vectors), np.float32))


class ListMatcher:
    """Compares with a handful of enrolled painted people; core.ports.Matcher."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = list(names.values())
        self._vectors = np.stack([vector_of(person) for person in names]) if names else np.zeros((0, DIMENSIONS), np.float32)

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        answers = []
        for scores in probes @ self._vectors.T:
            best = np.argsort(-scores)[:k]
            answers.append(
                tuple(
                    Candidate(
                        subject_id=f"id-{self._names[i]}",
                        subject=self._names[i],
                        reference_id=f"ref-{self._names[i]}",
                        score=float(scores[i]),
                        rank=rank + 1,
                    )
                    for rank, i in enumerate(best)
                )
            )
        return MatchAnswer(candidates=tuple(answers), generation=1, references=len(self._names))
