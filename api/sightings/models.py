"""Bodies and queries of sightings and episodes."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from api.models import Answer, Box, Instant, PageQuery, Text
from core.schema import Sighting, SightingOutcome
from sightings.record import StoredEpisode, StoredSighting, at


class PointView(Answer):
    """Where a track was."""

    at: datetime
    box: Box = Field(description="x1, y1, x2, y2 in pixels of the camera's frame.")


class StagesView(Answer):
    """When each stage was done, for the frame that decided."""

    captured_at: datetime
    published_at: datetime
    detected_at: datetime
    embedded_at: datetime
    matched_at: datetime
    decided_at: datetime


class SightingView(Answer):
    """What one track turned out to be."""

    sighting_id: str
    camera: str
    region: str
    outcome: SightingOutcome = Field(description="`unclear`: too small, blurred or turned to tell; never counted as a stranger.")
    reason: str = Field(description="Why it is not a name.")
    subject_id: str | None
    subject: str | None
    score: float | None = Field(description="Cosine to the nearest subject, named or not; null when nothing was compared.")
    threshold: float = Field(description="A name is given from this score on.")
    quality: float = Field(description="0 useless .. 1 passport.")
    faces: int
    first_at: datetime
    last_at: datetime
    best_at: datetime
    best_box: Box
    closed: bool = Field(description="The track has ended.")
    revision: int = Field(description="Grows with each change of this sighting.")
    latency_ms: float = Field(description="Capture to decision of the frame that decided.")
    episode_id: str | None
    thumbnail: str | None = Field(description="Path of the picture of the best shot.")

    @classmethod
    def of(cls, stored: StoredSighting) -> "SightingView":
        """Return a sighting as the API shows it in lists and events."""
        return cls(**_sighting_fields(stored))


class SightingDetail(SightingView):
    """A sighting with its path and how it came about."""

    track_id: str
    collection: str
    reference_id: str | None
    model: str
    shards_missing: int
    stages: StagesView
    path: list[PointView]

    @classmethod
    def of(cls, stored: StoredSighting) -> "SightingDetail":
        """Return a sighting as the API shows it alone."""
        sighting = stored.sighting
        stages = {f"{name}_at": at(getattr(sighting.times, f"{name}_s")) for name in _STAGES}
        same = {name: getattr(sighting, name) for name in ("track_id", "collection", "reference_id", "model", "shards_missing")}
        path = [PointView(at=at(point.t_s), box=(point.x1, point.y1, point.x2, point.y2)) for point in sighting.path]
        return cls(**_sighting_fields(stored), **same, stages=StagesView(**stages), path=path)


_STAGES = ("captured", "published", "detected", "embedded", "matched", "decided")
# fmt: off
_SAME = (
    "sighting_id", "camera", "region", "outcome", "reason", "subject_id", "subject", "score", "threshold", "quality", "faces", "best_box",
    "closed", "revision",
)
# fmt: on


def _sighting_fields(stored: StoredSighting) -> dict[str, Any]:
    sighting: Sighting = stored.sighting
    return {name: getattr(sighting, name) for name in _SAME} | {
        "first_at": at(sighting.first_s),
        "last_at": at(sighting.last_s),
        "best_at": at(sighting.best_s),
        "latency_ms": round(1000 * (sighting.times.decided_s - sighting.times.captured_s), 1),
        "episode_id": stored.episode_id,
        "thumbnail": f"/v1/sightings/{sighting.sighting_id}/thumbnail.jpg" if stored.has_thumbnail else None,
    }


class EpisodeQuery(PageQuery):
    """Which episodes."""

    camera: Text | None = None
    subject: Annotated[Text | None, Field(description="A subject's id, or name.")] = None
    since: Annotated[Instant | None, Field(description="Ended at or after it; RFC 3339 with offset, or Unix seconds.")] = None
    until: Annotated[Instant | None, Field(description="Began before it.")] = None


class SightingQuery(EpisodeQuery):
    """Which sightings."""

    outcome: SightingOutcome | None = None


class SightingPage(Answer):
    """Sightings, newest appearance first."""

    sightings: list[SightingView]
    next_cursor: str | None


class EpisodeView(Answer):
    """Sightings of one subject at one camera without a long gap."""

    episode_id: str
    camera: str
    collection: str
    subject_id: str
    subject: str
    first_at: datetime
    last_at: datetime
    sightings: int
    best_sighting_id: str

    @classmethod
    def of(cls, stored: StoredEpisode) -> "EpisodeView":
        """Return an episode as the API shows it."""
        same = {name: getattr(stored, name) for name in cls.model_fields if hasattr(stored, name)}
        return cls(**same, first_at=at(stored.first_s), last_at=at(stored.last_s))


class EpisodePage(Answer):
    """Episodes, newest beginning first."""

    episodes: list[EpisodeView]
    next_cursor: str | None
