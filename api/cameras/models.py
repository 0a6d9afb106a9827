"""Bodies and queries of cameras."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from api.models import Answer, CursorText, Limit, Name, Patch, Query
from ingest.cameras import GATE, CameraRecord
from ingest.probe import Probe

Url = Annotated[
    str,
    Field(
        pattern=r"^(rtsps?|rtsp\+tcp|https?|rtmps?)://[!-~]+$",
        max_length=2000,
        description="rtsp, rtsps, http, https, rtmp or rtmps, with user name and password. Encrypted at rest; never returned.",
        json_schema_extra={"writeOnly": True},
    ),
]
Groups = Annotated[list[Name], Field(max_length=50, description="Whom it concerns: grants, watchlists and thresholds name groups.")]
Point = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)]
Polygon = Annotated[list[Point], Field(min_length=3, max_length=64)]
Polygons = Annotated[list[Polygon], Field(max_length=50)]
MaxFps = Annotated[float, Field(gt=0, le=120)]
_EXAMPLE: dict[str, Any] = {
    "name": "north-door",
    "url": "rtsp://operator:secret@10.0.7.21/stream1",
    "groups": ["entrances", "north"],
    "max_fps": 10,
    "zones": [[[0, 0.2], [1, 0.2], [1, 1], [0, 1]]],
}


class GateView(Query):
    """How the camera's pictures are chosen, where it is otherwise than the settings say; null = as they say."""

    hold_s: Annotated[float, Field(ge=0, le=60, description="How long frames pass after the last motion.")] | None = None
    heartbeat_s: Annotated[float, Field(ge=0.1, le=3600, description="A frame is looked at this often though nothing moves.")] | None = None
    track_fps: Annotated[float, Field(ge=0.1, le=30, description="Rate of frames while somebody stands still.")] | None = None
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] | None = None


class CameraView(Answer):
    """A camera and how it is."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [_EXAMPLE | {"url": "rtsp://***@10.0.7.21/stream1", "state": "live", "enabled": True, "version": 1}]
        },
    )

    name: str
    url: str = Field(description="Without credentials.")
    region: str
    enabled: bool
    state: str
    reason: str = Field(default="", description="Why it is not running.")
    since: datetime | None = Field(default=None, description="Since when it is in this state.")
    last_frame_at: datetime | None = None
    frames_published: int | None = None
    groups: list[str] = Field(default=[], description="Whom it concerns.")
    max_fps: float | None = Field(default=None, description="At most so many frames a second are looked at; null = as the settings say.")
    zones: list[list[list[float]]] = Field(default=[], description="Polygons in fractions of the picture: motion counts only here.")
    masks: list[list[list[float]]] = Field(default=[], description="Polygons where motion never counts.")
    gate: GateView = GateView()
    version: int = 1

    @classmethod
    def of(cls, camera: CameraRecord, *, state: str, **how: Any) -> "CameraView":
        """Return a camera as the API shows it.

        Args:
            camera: as it is stored.
            state: of its ingester; a camera that is switched off is ``disabled``.
            how: what else is known of it: ``reason``, ``since``, ``frames_published``.
        """
        spec = camera.spec
        return cls(
            name=spec.name,
            url=camera.url_redacted,
            region=spec.region,
            enabled=camera.enabled,
            state=state if camera.enabled else "disabled",
            groups=list(camera.groups),
            max_fps=spec.max_fps,
            zones=[[list(point) for point in polygon] for polygon in spec.zones],
            masks=[[list(point) for point in polygon] for polygon in spec.masks],
            gate=GateView(**{name: getattr(spec, name) for name in GATE if name != "max_fps"}),
            version=camera.version,
            **how,
        )


class CameraQuery(Query):
    """Which cameras."""

    group: Name | None = None
    region: Name | None = None
    limit: Limit = 500
    cursor: CursorText | None = None


class CameraList(Answer):
    """Cameras by name."""

    cameras: list[CameraView]
    next_cursor: str | None = None


class _CameraBody(Query):
    region: Name = "default"
    groups: Groups = Field(default_factory=list)
    enabled: bool = True
    max_fps: MaxFps | None = Field(default=None, description="At most so many frames a second are looked at; null = as the settings say.")
    zones: Polygons = Field(default_factory=list, description="Motion counts only here; none = everywhere.")
    masks: Polygons = Field(default_factory=list, description="Motion never counts here.")
    gate: GateView = GateView()


class NewCamera(_CameraBody):
    """A camera to add."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    name: Name
    url: Url


class CameraPatch(_CameraBody, Patch):
    """What to change; what is absent stays. A `gate` replaces the one before."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"enabled": False}, {"max_fps": None}]})

    url: Url = Field(default_factory=str)


class CameraRemoved(Answer):
    """A camera is forgotten, with its credentials; what it saw stays."""

    name: str


class CameraTrial(Query):
    """A URL to try."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [{"url": "rtsp://operator:secret@10.0.7.21/stream1"}]}
    )

    url: Url


class CameraTest(Answer):
    """What a URL answered."""

    ok: bool
    reason: str = Field(default="", description="Why there is no picture, in one line.")
    kind: str | None = None
    codec: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    stated_fps: float | None = Field(default=None, description="As the stream says; often wrong.")
    measured_fps: float | None = None
    open_ms: float | None = Field(default=None, description="Until the stream was described.")
    first_frame_ms: float | None = Field(default=None, description="Until the first picture, opening included.")
    snapshot_jpeg: str | None = Field(default=None, description="Base64. Faces are blurred for who may not see them.")

    @classmethod
    def of(cls, probe: Probe, snapshot: str) -> "CameraTest":
        """Return what a trial found."""
        same = {name: value for name, value in probe.line().items() if name in cls.model_fields}
        times = {"open_ms": round(1000 * probe.open_s, 1), "first_frame_ms": round(1000 * probe.first_frame_s, 1)}
        return cls(ok=True, snapshot_jpeg=snapshot, **same, **times)
