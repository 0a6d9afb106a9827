"""Bodies of searches of the past."""

import uuid
from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from api.models import Answer, Instant, Name, Query
from api.search.models import Base64, Score
from api.sightings.models import SightingView
from core.schema import SightingOutcome

_OUTCOMES = "(subject|stranger|unclear)"
_NAMES = r"[A-Za-z0-9._-]{1,64}"
Hits = Annotated[int, Field(ge=1, le=1000, description="Most sightings.")]
Since = Annotated[Instant | None, Field(description="Ended at or after it.")]
Until = Annotated[Instant | None, Field(description="Began before it.")]
_EXAMPLE: dict[str, JsonValue] = {"since": "2026-05-01T00:00:00Z", "cameras": ["gate", "hall"], "fpir": 0.01, "limit": 50}


class Terms(Query):
    """When, where, and how sure to be."""

    since: Since = None
    until: Until = None
    threshold: Score = None
    fpir: Annotated[
        float | None,
        Field(ge=1e-12, le=0.999, description="Instead of a threshold: the chance that any of the sightings searched is somebody else."),
    ] = None
    limit: Hits = 100


class HistoryForm(Terms):
    """A photo; its best face is searched for."""

    photo: Annotated[bytes, Field(description="The photo file; exactly one.")]
    cameras: Annotated[str | None, Field(pattern=f"^{_NAMES}(,{_NAMES}){{0,99}}$", description="Names, with commas between.")] = None
    camera_groups: Annotated[str | None, Field(pattern=f"^{_NAMES}(,{_NAMES}){{0,99}}$", description="Names, with commas between.")] = None
    outcomes: Annotated[str | None, Field(pattern=f"^{_OUTCOMES}(,{_OUTCOMES}){{0,2}}$", description="With commas between.")] = None


class HistoryFilter(Terms):
    """When, where, and how sure to be, in JSON."""

    cameras: Annotated[list[Name] | None, Field(min_length=1, max_length=500)] = None
    camera_groups: Annotated[list[Name] | None, Field(min_length=1, max_length=100, description="Cameras of any of these groups.")] = None
    outcomes: Annotated[list[SightingOutcome] | None, Field(min_length=1, max_length=3)] = None


class HistoryEmbedding(HistoryFilter):
    """Search by an embedding that was made elsewhere with the same model."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "fr_feature", "embedding": "AACAPwAAAAAAAAAAAAAAAA==", **_EXAMPLE}]}
    )
    embedding: Base64
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="The model that made it; must be the one in use.")]


class HistorySighting(HistoryFilter):
    """Search by the face of a sighting, which is itself left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sighting_id": "6f2ab1f0-5f5e-5d0b-a3d1-2f6a4c1b9e77", **_EXAMPLE}]})
    sighting_id: uuid.UUID


class HistoryReference(HistoryFilter):
    """Search by an enrolled face."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reference_id": "0d9c2f6e-90a1-5d7e-8f11-5a3b7c9d2e10", **_EXAMPLE}]})
    reference_id: uuid.UUID


class HistoryMatch(Answer):
    """A sighting of the face."""

    score: float = Field(description="Cosine, exact.")
    fpir: float = Field(description="Chance that any of the sightings searched scores this or more without being the same person.")
    sighting: SightingView


class PlaceView(Answer):
    """What was found at one camera."""

    camera: str
    sightings: int
    first_at: datetime
    last_at: datetime
    best_score: float
    best_sighting_id: str


class HistoryAnswer(Answer):
    """Where a face has been."""

    model: str
    threshold: float
    fpir: float = Field(description="Chance that any of the sightings searched reaches the threshold without being the same person.")
    searched: int = Field(description="Sightings compared with: those that the filters leave.")
    complete: bool = Field(description="False while the record is being read after a start, and where the oldest do not fit into memory.")
    indexed: int = Field(description="Sightings that can be searched now.")
    total: int = Field(description="Sightings with a face that are kept.")
    oldest_at: datetime | None = Field(description="Of those that can be searched now.")
    matches: list[HistoryMatch] = Field(description="Best score first.")
    more: bool = Field(description="Further sightings reach the threshold.")
    cameras: list[PlaceView] = Field(description="The matches by camera, the latest first.")
