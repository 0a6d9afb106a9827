"""A photo becomes faces with embeddings, in one synchronous call for an executor's thread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.photo import decode_photo
from core.types import Embeddings, Faces, Image, Quality
from detect.detector import Detector
from embed.embedder import Embedder
from embed.quality import assess
from enrollment.faces import moved, with_border, working_copy

MAX_FACES = 64  # of one photo, best detected first: a probe batch


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoFaces:
    """What is in a photo; boxes and landmarks in its pixels after EXIF orientation."""

    width_px: int
    height_px: int
    faces: Faces
    qualities: Sequence[Quality]
    embeddings: Embeddings


class PhotoReader:
    """Decodes, detects and embeds. Thread rule: any thread; the models let one call in at a time."""

    def __init__(self, detector: Detector, embedder: Embedder) -> None:
        self._detector = detector
        self._embedder = embedder

    def read(self, data: bytes, *, name: str) -> PhotoFaces:
        """Look at a photo.

        Args:
            data: the file's bytes; anything hostile.
            name: what to call it in errors.

        Raises:
            UnreadableMediaError: it is no picture that we read. ModelError: a model does not run.
        """
        image = decode_photo(data, name=name)
        working = working_copy(image)
        found = self._detect(working)
        near = found.take(np.arange(min(len(found), MAX_FACES)))
        embeddings = self._embedder.embed(self._embedder.chips(working, near.landmarks))
        return PhotoFaces(
            width_px=image.shape[1],
            height_px=image.shape[0],
            faces=_enlarged(near, max(image.shape) / max(working.shape)),
            qualities=assess(working, near),
            embeddings=embeddings,
        )

    def _detect(self, image: Image) -> Faces:
        """Find faces; a picture without one is looked at again on a larger ground, in case it is a very tight crop."""
        (found,) = self._detector.detect([image])
        if len(found):
            return found
        bordered, corner = with_border(image)
        (found,) = self._detector.detect([bordered])
        return moved(found, corner)


def _enlarged(faces: Faces, factor: float) -> Faces:
    """Return faces of a shrunk picture in pixels of the whole one (pixel centres at integers)."""
    half, times = np.float32(0.5), np.float32(factor)
    return Faces(boxes=(faces.boxes + half) * times - half, landmarks=(faces.landmarks + half) * times - half, scores=faces.scores)
