"""Photos that are embeddings: enrolment and search over HTTP against real matchers, without models."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from core.types import F32
from detect.detector import Detector
from embed.embedder import Embedder
from enrollment.record import NewReference, Outcome, Photo, SubjectDetails
from enrollment.service import Enroller, EnrollOptions
from tests.builders.api import MODEL
from tests.builders.painted import PaintedDetector, PaintedEmbedder


class PaperEmbedder(PaintedEmbedder):
    """Never looks: its model is that of the API builder's calibration."""

    model = MODEL


def eyes() -> tuple[Detector, Embedder]:
    """Return models that are never asked."""
    return PaintedDetector(), cast(Embedder, PaperEmbedder())


def photo_bytes(vector: F32) -> bytes:
    """Return the photo that holds an embedding."""
    return vector.astype("<f4").tobytes()


def as_text(vector: F32) -> str:
    """Return an embedding as POST /v1/search/embedding takes it."""
    return base64.b64encode(photo_bytes(vector)).decode()


@dataclass
class VectorEnroller:
    """Takes a photo's bytes for its embedding; the rest is the real enroller's."""

    real: Enroller

    async def enroll_all(self, photos: Iterable[Photo], report: Callable[[Outcome], None], options: EnrollOptions) -> None:
        for photo in photos:
            data = photo.read()
            new = NewReference(
                content_sha256=hashlib.sha256(data).digest(),
                face_index=0,
                source=photo.file,
                face_jpeg=b"\xff\xd8",
                landmarks=np.zeros((5, 2), np.float32),
                quality=0.7,
                quality_reasons=(),
                model=MODEL,
                vector=np.frombuffer(data, "<f4"),
            )
            report(await self.real.enroll_vector(photo.subject, new, options, subject_id=photo.subject_id))

    async def enroll_new(self, photos: Sequence[Photo], details: SubjectDetails, options: EnrollOptions) -> list[Outcome]:
        return await self.real.enroll_new(photos, details, options)

    async def enroll_vector(
        self,
        subject: str,
        new: NewReference,
        options: EnrollOptions,
        *,
        subject_id: str | None = None,
        details: SubjectDetails | None = None,
    ) -> Outcome:
        return await self.real.enroll_vector(subject, new, options, subject_id=subject_id, details=details)
