"""What is kept, where, and how long."""

from typing import Annotated

from pydantic import Field, SecretStr

from core.settings.group import Days, Group


class StorageSettings(Group):
    """Where uploads, what jobs read, and what they leave are kept."""

    url: str = "file:"
    """``file:`` = the folder objects in data_dir; ``file:///folder``; or ``s3://bucket/prefix``. ``memory:`` forgets all, for tests."""
    endpoint: str = ""
    """Of an S3 that is not Amazon's: ``https://host:port``."""
    region: str = ""
    access_key_id: str = ""
    """Empty = what the environment or the machine's role gives."""
    secret_access_key: SecretStr = SecretStr("")
    upload_expires_s: Annotated[float, Field(ge=60, le=86400)] = 3600.0
    """How long an upload may be begun after it was asked for."""
    max_upload_bytes: Annotated[int, Field(ge=1024, le=1 << 40)] = 4 << 30
    """Of one upload; api.max_upload_bytes limits what other requests carry."""
    upload_keep_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """Uploads are erased after this, and as soon as a job has used all of one."""


class JobSettings(Group):
    """Bulk imports and batch recognition."""

    lease_s: Annotated[float, Field(ge=1, le=600)] = 20.0
    """A job whose process is silent for so long goes on in another."""
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 5
    """Tries of one item before it is set apart."""
    retention_days: Days = 30.0
    """Finished jobs, their reports and results are erased after this."""


class EventSettings(Group):
    """The log of events, from which live streams, webhooks and MQTT are fed."""

    keep_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """How far back streams can resume and webhooks can be replayed; finished deliveries are kept as long."""


class RetentionSettings(Group):
    """How long single classes of data are kept, where not as long as sightings.retention_days says.

    See also audit.retention_days, jobs.retention_days, storage.upload_keep_days, events.keep_days and enrollment.set_aside_days.
    """

    strangers_days: Days | None = None
    """Sightings of strangers, and unclear ones. None = as all sightings."""
    thumbnails_days: Days | None = None
    """Pictures of sightings that stay themselves. None = as long as the sighting."""
    embeddings_days: Days | None = None
    """Embeddings of sightings that stay themselves; the past can be searched by them so long. None = as long as the sighting."""
    alerts_days: Days | None = None
    """Alerts, from when they were raised or last grew. None = as sightings."""


class AuditSettings(Group):
    """What is kept of who did what."""

    purpose_required: bool = False
    """Requests that read or change something of a person must say why, in the header X-Purpose; others are refused."""
    retention_days: Annotated[float, Field(gt=0, le=36500)] | None = None
    """Entries older than this are pruned; the rest can still be verified. None = kept for ever."""
