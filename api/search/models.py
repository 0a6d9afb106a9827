"""Bodies and queries of searches."""

from typing import Annotated

from pydantic import Field

from api.models import Answer, Box, Query
from recognize.decide import FaceOutcome


class SearchForm(Query):
    """A photo and how to search for its faces."""

    photo: Annotated[bytes, Field(description="The photo file; exactly one.")]
    k: Annotated[int, Field(ge=1, le=100, description="Most candidates of a face.")] = 5
    threshold: Annotated[float | None, Field(ge=-1, le=1, description="Score from which on a candidate matches.")] = None
    fpir: Annotated[float | None, Field(gt=0, lt=1, description="Chance that a stranger's photo matches; instead of threshold.")] = None


class CandidateView(Answer):
    """A subject who might be the face."""

    rank: int
    subject_id: str
    subject: str
    reference_id: str
    score: float
    match: bool = Field(description="score >= threshold.")
    fpir: float = Field(description="Chance that the face of a stranger scores this or more with anybody enrolled.")


class FaceView(Answer):
    """A face of the photo, and who it might be."""

    box: Box
    detector_score: float
    quality: float
    quality_reasons: list[str]
    outcome: FaceOutcome
    reason: str
    candidates: list[CandidateView]


class SearchAnswer(Answer):
    """The faces of a photo, best detected first."""

    width_px: int
    height_px: int
    model: str
    references: int = Field(description="References compared with.")
    threshold: float
    fpir: float = Field(description="Chance that a stranger's photo matches at this threshold.")
    faces: list[FaceView]
