"""Bodies and queries of jobs."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from api.jobs.record import Item, ItemState, Job, JobState, Kind
from api.jobs.report import line_of
from api.models import Answer, CursorText, Limit, Query

CollectionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Absent = the one that is recognized.")]
Prefix = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
        max_length=200,
        description="A folder in `inbox/COLLECTION/` of object storage.",
    ),
]
PersonName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*[!-~][^\x00-\x1f\x7f-\x9f]*$", min_length=1, max_length=200)]
CallbackUrl = Annotated[
    str, Field(pattern=r"^https?://[!-~]+$", max_length=1000, description="Is sent a signed POST when the job has ended.")
]
CallbackSecret = Annotated[str, Field(pattern=r"^[!-~]{16,200}$", description="Key of the signature; needed with callback_url.")]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="Which model made the embeddings.")]
RetryState = Literal["rejected", "set_apart"]


class JobConsent(Query):
    """What everybody in the import agreed to."""

    purpose: PersonName
    basis: PersonName | None = None
    given_by: PersonName | None = None
    given_at: AwareDatetime | None = None


class NewImport(Query):
    """People to enrol, from files."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"format": "zip", "upload_id": "0b7a0c39-6f8a-4e4f-9d0c-1d2e7a1f0a55", "collection": "staff"},
                {"format": "folder", "prefix": "2026-05", "numbered": True},
                {"format": "embeddings", "upload_id": "0b7a0c39-6f8a-4e4f-9d0c-1d2e7a1f0a55", "model": "fr_feature"},
            ]
        }
    )

    format: Annotated[
        Literal["zip", "csv", "folder", "embeddings"],
        Field(description="zip, csv, embeddings: of the upload; folder: of the inbox. A CSV's photos lie in another one of these."),
    ]
    upload_id: uuid.UUID | None = None
    photos_upload_id: Annotated[uuid.UUID | None, Field(description="csv: the zip with its photos.")] = None
    prefix: Prefix | None = None
    collection: CollectionName | None = None
    subject: Annotated[PersonName | None, Field(description="All are of this one person.")] = None
    numbered: Annotated[bool, Field(description="alice_1.jpg and alice_2.jpg are both alice.")] = False
    allow_lookalike: Annotated[bool, Field(description="Enrol faces that look like somebody else (twins).")] = False
    on_doubt: Annotated[
        Literal["reject", "set_aside", "enroll"], Field(description="Photos: what becomes of poor faces and lookalikes.")
    ] = "reject"
    consent: JobConsent | None = None
    expires_at: Annotated[AwareDatetime | None, Field(description="Until when they may be recognized.")] = None
    model: ModelName | None = None
    callback_url: CallbackUrl | None = None
    callback_secret: CallbackSecret | None = None


class NewRecognition(Query):
    """Pictures and videos to look at."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"zip_upload_id": "0b7a0c39-6f8a-4e4f-9d0c-1d2e7a1f0a55", "k": 3}, {"prefix": "album/2026"}]}
    )

    upload_ids: Annotated[list[uuid.UUID], Field(max_length=1000, description="Pictures or videos, one each.", default_factory=list)]
    zip_upload_id: Annotated[uuid.UUID | None, Field(description="A zip of pictures.")] = None
    prefix: Prefix | None = None
    collection: CollectionName | None = None
    k: Annotated[int, Field(ge=1, le=20, description="Most candidates of a face.")] = 5
    threshold: Annotated[float | None, Field(ge=-1, le=1, description="Score from which a face is named, whatever the rules say.")] = None
    every_s: Annotated[float, Field(ge=0, le=60, description="Videos: seconds between frames; 0 = every frame.")] = 0.1
    callback_url: CallbackUrl | None = None
    callback_secret: CallbackSecret | None = None


class RetryRequest(Query):
    """What to do again."""

    states: Annotated[list[RetryState], Field(min_length=1, max_length=2, default_factory=lambda: ["rejected", "set_apart"])]


class JobQuery(Query):
    """Which jobs."""

    kind: Kind | None = None
    state: JobState | None = None
    limit: Limit = 50
    cursor: CursorText | None = None


class ItemQuery(Query):
    """Which items of a job."""

    state: ItemState | None = None
    limit: Limit = 100
    cursor: CursorText | None = None


class JobView(Answer):
    """A job as it is."""

    job_id: uuid.UUID
    kind: Kind
    state: JobState = Field(
        description="succeeded: all items are done; partial: some are rejected or set apart; failed: none is done; see reason."
    )
    collection: str
    total: int = Field(description="Items; 0 until they are listed.")
    done: int
    rejected: int = Field(description="Looked at and refused, with a reason.")
    set_apart: int = Field(description="Tried in vain, with the last reason.")
    waiting: int
    reason: str = Field(description="Why it failed, or waits.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    version: int

    @staticmethod
    def of(job: Job) -> "JobView":
        """Return a job as clients see it."""
        same = {name: getattr(job, name) for name in JobView.model_fields if name != "waiting"}
        return JobView(waiting=max(0, job.total - job.done - job.rejected - job.set_apart), **same)


class JobPage(Answer):
    """Jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str | None


class ItemView(Answer):
    """One item: a photo, a row, a picture or a video."""

    seq: int
    file: str
    subject: str | None = Field(description="Import: under whose name.")
    state: ItemState
    reason: str | None = Field(description="Import: as of `sightline enroll`. erased: it was of somebody who was erased since.")
    detail: str | None
    attempts: int
    result: dict[str, Any] | None = Field(
        description="Import: status, subject_id, reference_id, quality, generation. Recognition: faces with candidates, or sightings."
    )
    finished_at: datetime | None

    @staticmethod
    def of(item: Item) -> "ItemView":
        """Return an item as clients see it."""
        return ItemView(**line_of(item), finished_at=item.finished_at)


class ItemPage(Answer):
    """Items in their order."""

    items: list[ItemView]
    next_cursor: str | None
