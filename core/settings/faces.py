"""From a camera to a name: frames, models, the gallery and what is remembered."""

from typing import Annotated, Literal

from pydantic import Field

from core.settings.group import Days, Group, Rate


class ModelSettings(Group):
    """Which models, and where they run."""

    set: str = "open"
    provider: Literal["auto", "tensorrt", "cuda", "cpu"] = "auto"
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Intra-op threads per session; 0 = from the machine."""
    detector_side_px: Annotated[int, Field(ge=160, le=4096)] = 640
    """The longest side a frame is shrunk to before detection."""


class IngestSettings(Group):
    """Defaults of every camera; a camera may override."""

    max_fps: Annotated[float, Field(gt=0, le=120)] = 10.0
    """Rate cap of gated frames per camera."""
    hold_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    """How long the gate stays open after the last motion."""
    heartbeat_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """A frame is looked at this often even when nothing moves."""
    track_fps: Annotated[float, Field(gt=0, le=30)] = 2.0
    """Rate at which a live track holds its camera's gate open."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 90
    spool_bytes: Annotated[int, Field(ge=0, le=1 << 40)] = 1 << 30
    """Gated frames kept on disk (data_dir/spool) while Kafka is away; what does not fit is dropped and counted."""
    spool_max_age_s: Annotated[float, Field(ge=10, le=604800)] = 3600.0
    """Older frames are dropped from the spool and counted: they are pictures of people, and what they show is no news any more. Erasures
    name this time in their receipts, so give it to all processes alike."""
    lease_s: Annotated[float, Field(ge=2, le=60)] = 6.0
    """A fleet's ingester that is silent for so long loses its cameras to the others; the same for all of them."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    """Of this ingester in its fleet; one that starts again under its name has its cameras at once. Empty = host and process id."""


class RecognizeSettings(Group):
    """How faces become names."""

    target_fpir: Rate = 0.01
    """Chance that a stranger's track or photo is named at all, whatever the size of the gallery."""
    threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Fixed score instead of the calibrated one; for experts."""
    collection: str = "default"
    min_face_px: Annotated[int, Field(ge=16, le=512)] = 32
    """Faces lower than this are seen but never named."""
    reembed_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """A live track is looked at again this often."""
    batch_frames: Annotated[int, Field(ge=0, le=64)] = 0
    """Most frames that are looked at together; 0 = from where the models run: 1 on a CPU, 8 on a GPU."""


class MatcherSettings(Group):
    """A shard of the gallery, and how it is asked."""

    storage: Literal["fp32", "fp16", "int8"] = "fp32"
    """How exact embeddings are kept in memory; see docs/matcher.md for bytes and effects."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """An answer that takes longer is partial."""
    load_connections: Annotated[int, Field(ge=1, le=16)] = 4
    """Parallel readers while a shard fills its memory."""


class EnrollmentSettings(Group):
    """How people are enrolled."""

    set_aside_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Photos that nobody has decided on are deleted after this time."""


class SightingSettings(Group):
    """What is remembered."""

    episode_gap_s: Annotated[float, Field(gt=0, le=86400)] = 30.0
    retention_days: Days = 30.0
    """Sightings older than this are erased, thumbnails and embeddings with them."""


class HistorySettings(Group):
    """Search of the past, and unknown persons."""

    max_sightings: Annotated[int, Field(ge=1000, le=100_000_000)] = 2_000_000
    """Sightings that each API process keeps in memory to search them by face, newest first: 0.6 KB each with 512 dimensions."""
    persons: bool = True
    """Strangers who come back are counted as one unknown person."""
    person_far: Rate = 1e-3
    """Chance that a stranger's track joins any of the unknown persons wrongly, whatever their number."""
