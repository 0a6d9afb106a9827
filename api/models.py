"""Bodies and queries of the API. The OpenAPI document is made from these classes."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from core.schema import Sighting, SightingOutcome
from sightings.record import StoredEpisode, StoredSighting, at

Box = tuple[float, float, float, float]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Limit = Annotated[int, Field(ge=1, le=500, description="Most rows of a page.")]
CursorText = Annotated[str, Field(max_length=1200, description="`next_cursor` of the page before.")]


class Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


class Query(BaseModel):
    """Query parameters; unknown ones are refused, so that a misspelt filter is never taken for none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorBody(Answer):
    """What went wrong."""

    code: str = Field(description="Stable and machine-readable.")
    message: str = Field(description="One line: what, where, how to mend it.")
    details: list[dict[str, Any]] = Field(default=[], description="Problems field by field: `field`, `problem`.")


class ErrorEnvelope(Answer):
    """Every error of the API."""

    error: ErrorBody
    request_id: str = Field(description="Also in the header X-Request-ID and in the server's log.")


class Alive(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadyCheck(Answer):
    """One thing that must work."""

    name: str
    ok: bool
    reason: str = Field(default="", description="What is missing, in one line.")


class Ready(Answer):
    """Whether requests can be served now."""

    ready: bool
    checks: list[ReadyCheck]


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


class SightingQuery(Query):
    """Which sightings."""

    camera: Text | None = None
    subject: Annotated[Text | None, Field(description="A subject's id, or name.")] = None
    outcome: SightingOutcome | None = None
    since: Annotated[AwareDatetime | None, Field(description="Ended at or after it; RFC 3339 with offset, or Unix seconds.")] = None
    until: Annotated[AwareDatetime | None, Field(description="Began before it.")] = None
    limit: Limit = 50
    cursor: CursorText | None = None


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


class EpisodeQuery(Query):
    """Which episodes."""

    camera: Text | None = None
    subject: Annotated[Text | None, Field(description="A subject's id, or name.")] = None
    since: Annotated[AwareDatetime | None, Field(description="Ended at or after it; RFC 3339 with offset, or Unix seconds.")] = None
    until: Annotated[AwareDatetime | None, Field(description="Began before it.")] = None
    limit: Limit = 50
    cursor: CursorText | None = None


class EpisodePage(Answer):
    """Episodes, newest beginning first."""

    episodes: list[EpisodeView]
    next_cursor: str | None


class CameraView(Answer):
    """A camera and how it is."""

    name: str
    url: str = Field(description="Without credentials.")
    region: str
    enabled: bool
    state: str
    reason: str = Field(default="", description="Why it is not running.")
    since: datetime | None = Field(default=None, description="Since when it is in this state.")
    last_frame_at: datetime | None = None
    frames_published: int | None = None


class CameraList(Answer):
    """All cameras."""

    cameras: list[CameraView]


class EventQuery(Query):
    """Where a live stream resumes."""

    last_event_id: Annotated[str | None, Field(max_length=100, description="Like the header Last-Event-ID.")] = None


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
    outcome: SightingOutcome
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
