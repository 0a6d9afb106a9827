"""Bodies and queries of searches."""

import uuid
from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from api.models import Answer, Box, Name, Query
from recognize.decide import FaceOutcome

Score = Annotated[float | None, Field(ge=-1, le=1, description="Score from which on a candidate matches.")]
Fpir = Annotated[
    float | None,
    Field(ge=1e-12, le=0.999, description="Instead of a threshold: the chance that somebody who is not there matches anybody."),
]
K = Annotated[int, Field(ge=1, le=100, description="Most candidates of a face.")]
Base64 = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9+/]{22,21846}={0,2}$",
        description="base64 of float32, little-endian, as many as the model has dimensions. Its length need not be 1.",
    ),
]
FACE = "Which faces of the photo: `all`, or `best`: the large, sure, central one."
_PHOTO = "The photo file; exactly one. EXIF orientation is applied: boxes are in the picture as people see it."
_EXAMPLE: dict[str, JsonValue] = {"k": 3, "fpir": 0.001, "attributes": {"department": "R&D"}}


class Choice(Query):
    """Whom to search among, and how sure to be."""

    collection: Annotated[Name | None, Field(description="The gallery; by default the watchlist's, else the deployment's.")] = None
    watchlist: Annotated[Name | None, Field(description="Only subjects on it.")] = None
    k: K = 5
    threshold: Score = None
    fpir: Fpir = None


class SearchForm(Choice):
    """A photo and how to search for its faces."""

    photo: Annotated[bytes, Field(description=_PHOTO)]
    face: Annotated[str, Field(pattern="^(all|best)$", description=FACE)] = "all"
    attributes: Annotated[str | None, Field(max_length=4000, description="Only subjects with these: a JSON object.")] = None


class Filtered(Choice):
    """Whom to search among, in JSON."""

    attributes: Annotated[dict[str, JsonValue], Field(max_length=20, default_factory=dict, description="Only subjects with all of these.")]


class EmbeddingSearch(Filtered):
    """Search by an embedding that was made elsewhere with the same model."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "fr_feature", "embedding": "AACAPwAAAAAAAAAAAAAAAA==", **_EXAMPLE}]}
    )
    embedding: Base64
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="The model that made it; must be the one in use.")]


class SightingSearch(Filtered):
    """Search by the face of a sighting."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sighting_id": "6f2ab1f0-5f5e-5d0b-a3d1-2f6a4c1b9e77", **_EXAMPLE}]})
    sighting_id: uuid.UUID


class ReferenceSearch(Filtered):
    """Search by an enrolled face."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reference_id": "0d9c2f6e-90a1-5d7e-8f11-5a3b7c9d2e10", **_EXAMPLE}]})
    reference_id: uuid.UUID


class CandidateView(Answer):
    """A subject who might be the face."""

    rank: int
    subject_id: str
    subject: str
    reference_id: str
    score: float
    match: bool = Field(description="score >= threshold.")
    fpir: float = Field(description="Chance that the face of a stranger scores this or more with anybody compared with.")


class FaceView(Answer):
    """A face of the photo, and who it might be."""

    box: Box
    detector_score: float
    quality: float
    quality_reasons: list[str]
    outcome: FaceOutcome
    reason: str
    candidates: list[CandidateView]


class Terms(Answer):
    """What a search compared with, and what its threshold means."""

    model: str
    collection: str
    references: int = Field(description="References compared with: those that the filters leave.")
    threshold: float
    fpir: float = Field(description="Chance that a stranger's photo matches at this threshold.")


class SearchAnswer(Terms):
    """The faces of a photo, best detected first."""

    width_px: int
    height_px: int
    faces: list[FaceView]


class ProbeAnswer(Terms):
    """Who a face might be."""

    outcome: FaceOutcome = Field(description="`unclear` where two candidates are too near each other; `opted_out` is never told of.")
    reason: str
    candidates: list[CandidateView]


class VerifyForm(Query):
    """Two photos; or one, and whom it should show."""

    photo: Annotated[list[bytes], Field(min_length=1, max_length=2, description="One or two photo files; the best face of each counts.")]
    subject_id: Annotated[uuid.UUID | None, Field(description="With one photo: the subject to compare with.")] = None
    threshold: Score = None
    far: Annotated[
        float | None, Field(ge=1e-12, le=0.999, description="Instead of a threshold: the chance that two people pass for one.")
    ] = None


class VerifiedFace(Answer):
    """The face of a photo that was compared."""

    box: Box
    quality: float
    quality_reasons: list[str]


class VerifyAnswer(Answer):
    """Whether two faces are one person's."""

    match: bool = Field(description="score >= threshold.")
    score: float = Field(description="Cosine; of a subject, with the nearest reference.")
    threshold: float
    far: float = Field(description="Chance that two different people reach the threshold.")
    score_far: float = Field(description="Chance that two different people reach this score.")
    model: str
    reference_id: str | None = Field(description="The nearest reference, where a subject was asked for.")
    faces: list[VerifiedFace] = Field(description="The face of each photo, in the order of the photos.")
