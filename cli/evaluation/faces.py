"""From labelled photos to embeddings of their main faces, with the time that each stage took. Needs the models, no gallery."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.errors import NotFoundError, UnreadableMediaError
from core.photo import decode_photo
from core.types import F32, U8, Image
from detect.detector import Detector
from detect.photo import detect_photo
from embed.embedder import Embedder
from enrollment.faces import WORKING_SIDE_PX, working_copy
from enrollment.judge import face_weights
from enrollment.record import Photo

BATCH_PHOTOS = 16
"""Photos whose chips are embedded together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A photo without an embedding: a failure to acquire."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceSet:
    """The main faces of N photos."""

    files: tuple[str, ...]
    subjects: tuple[str, ...]
    vectors: F32
    """(N, D) float32 of norm 1."""
    failures: tuple[Failure, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def photos(self) -> int:
        """How many photos were tried."""
        return len(self.files) + len(self.failures)


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent in each stage, and how many times."""

    spent_s: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, stage: str, seconds: float, count: int) -> None:
        """Add time that ``count`` photos took together."""
        self.spent_s[stage] = self.spent_s.get(stage, 0.0) + seconds
        self.counts[stage] = self.counts.get(stage, 0) + count

    def mean_ms(self) -> dict[str, float]:
        """Return {stage: milliseconds a photo}."""
        return {stage: round(1000 * seconds / max(1, self.counts[stage]), 3) for stage, seconds in self.spent_s.items()}


class FaceReader:
    """Reads photos as enrolment does: the same working copy, the same second looks, the same choice among several faces."""

    def __init__(self, detector: Detector, embedder: Embedder, *, advance: Callable[[], None] = lambda: None) -> None:
        self.detector = detector
        self.embedder = embedder
        self.stopwatch = Stopwatch()
        self._advance = advance

    def read(self, photos: Sequence[Photo]) -> FaceSet:
        """Embed the main face of each photo; what shows no face or can't be read becomes a failure."""
        files: list[str] = []
        subjects: list[str] = []
        failures: list[Failure] = []
        vectors: list[F32] = [np.zeros((0, self.embedder.dimensions), np.float32)]
        for start in range(0, len(photos), BATCH_PHOTOS):
            views: list[U8] = []
            for photo in photos[start : start + BATCH_PHOTOS]:
                seen = self._views(photo)
                if isinstance(seen, Failure):
                    failures.append(seen)
                else:
                    views.append(seen)
                    files.append(photo.file)
                    subjects.append(photo.subject)
                self._advance()
            vectors.append(self._embed(views))
        return FaceSet(files=tuple(files), subjects=tuple(subjects), vectors=np.concatenate(vectors), failures=tuple(failures))

    def _views(self, photo: Photo) -> U8 | Failure:
        begin_s = time.perf_counter()
        try:
            image = working_copy(decode_photo(photo.read(), name=photo.file, enough_px=WORKING_SIDE_PX))
        except (UnreadableMediaError, NotFoundError) as err:
            return Failure(file=photo.file, reason=str(err))
        decoded_s = time.perf_counter()
        self.stopwatch.add("decode", decoded_s - begin_s, 1)
        landmarks = main_landmarks(self.detector, image)
        self.stopwatch.add("detect", time.perf_counter() - decoded_s, 1)
        if landmarks is None:
            return Failure(file=photo.file, reason="no face was found")
        return self.embedder.views(image, landmarks[None])

    def _embed(self, views: Sequence[U8]) -> F32:
        if not views:
            return np.zeros((0, self.embedder.dimensions), np.float32)
        begin_s = time.perf_counter()
        vectors = self.embedder.embed_views(np.concatenate(views)).vectors
        self.stopwatch.add("embed", time.perf_counter() - begin_s, len(views))
        return vectors


def main_landmarks(detector: Detector, image: Image) -> F32 | None:
    """Return the landmarks (5, 2) of a photo's main face (large, sure, near the middle), or None without a face."""
    faces = detect_photo(detector, image)
    if not len(faces):
        return None
    return np.asarray(faces.landmarks[int(np.argmax(face_weights(faces, image.shape[1], image.shape[0])))], np.float32)
