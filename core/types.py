"""The values that rooms hand to each other. Immutable, struct of arrays, shapes checked where they are made.

Coordinates are pixels of the source frame, pixel centres at integers. Colour is RGB; a BGR array is called ``*_bgr``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Image = U8
"""(H, W, 3) uint8 RGB."""


def check_array(name: str, array: NDArray[Any], shape: tuple[int | None, ...], dtype: type[np.generic]) -> None:
    """Check an array's dtype and shape (``None`` = any length).

    Raises:
        ValueError: naming expected and actual.
    """
    fits = array.ndim == len(shape) and all(want is None or want == got for want, got in zip(shape, array.shape, strict=False))
    if not fits or array.dtype != np.dtype(dtype):
        expected = "x".join("N" if n is None else str(n) for n in shape)
        raise ValueError(f"{name}: expected {expected} {np.dtype(dtype)}, got {'x'.join(map(str, array.shape))} {array.dtype}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One decoded image of a camera. Thread rule: owned by one task at a time; the pixels are never written to."""

    frame_id: str
    """``camera/session/seq``: derived, so that a redelivery makes the same id."""
    camera: str
    captured_s: float
    """Unix time of capture; for recorded files seconds from the first frame."""
    image: Image

    def __post_init__(self) -> None:
        check_array("Frame.image", self.image, (None, None, 3), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """N faces found in one frame, best score first."""

    boxes: F32
    """(N, 4) float32 x1, y1, x2, y2 in frame pixels; may stick out of the frame."""
    landmarks: F32
    """(N, 5, 2) float32: image-left eye, image-right eye, nose tip, image-left and image-right mouth corner."""
    scores: F32
    """(N,) float32 detector score 0..1."""

    def __post_init__(self) -> None:
        check_array("Faces.boxes", self.boxes, (None, 4), np.float32)
        check_array("Faces.landmarks", self.landmarks, (len(self.boxes), 5, 2), np.float32)
        check_array("Faces.scores", self.scores, (len(self.boxes),), np.float32)

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: NDArray[Any]) -> "Faces":
        """Return the faces at ``index`` (integer indices or a boolean mask)."""
        return Faces(boxes=self.boxes[index], landmarks=self.landmarks[index], scores=self.scores[index])

    @staticmethod
    def none() -> "Faces":
        """Return zero faces."""
        return Faces(boxes=np.zeros((0, 4), np.float32), landmarks=np.zeros((0, 5, 2), np.float32), scores=np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """N embeddings of one model. Embeddings of different models are never compared."""

    model: str
    """Id of the embedding model, e.g. ``fr_feature``."""
    vectors: F32
    """(N, D) float32, each row of L2 norm 1."""
    norms: F32
    """(N,) float32: the norm before normalisation, a quality signal for some models."""

    def __post_init__(self) -> None:
        check_array("Embeddings.vectors", self.vectors, (None, None), np.float32)
        check_array("Embeddings.norms", self.norms, (len(self.vectors),), np.float32)

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How far a face can be trusted for recognition."""

    value: float
    """0 (useless) .. 1 (passport)."""
    reasons: tuple[str, ...]
    """What lowers it, worst first, from: too_small, blurred, too_dark, too_bright, low_contrast, extreme_pose, occluded, cut_off,
    low_detector_score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One subject as an answer to a probe. Several references of a subject count once, with the best score."""

    subject_id: str
    subject: str
    """The subject's name, unique in its collection; what people see."""
    reference_id: str
    score: float
    """Cosine, -1..1, higher is closer."""
    rank: int
    """1 = best."""
