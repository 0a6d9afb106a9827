"""Bodies and queries of cameras."""

from datetime import datetime

from pydantic import Field

from api.models import Answer


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
