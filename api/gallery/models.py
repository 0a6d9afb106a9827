"""Bodies and queries of subjects and references."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, model_validator

from api.models import Answer, CursorText, Limit, Query, Text
from enrollment.record import Outcome, Receipt, Reference, Status, Subject

Collection = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Attributes = Annotated[dict[str, JsonValue], Field(max_length=100, description="Anything the integrator wants to keep with the subject.")]


class Consent(Query):
    """On what grounds somebody is enrolled."""

    purpose: Text | None = None
    basis: Text | None = None
    given_by: Text | None = None
    given_at: AwareDatetime | None = None


class SubjectView(Answer):
    """An enrolled person."""

    subject_id: str
    collection: str
    name: str
    attributes: dict[str, Any]
    consent: dict[str, Any] | None
    expires_at: datetime | None = Field(description="After this instant the subject is no longer matched.")
    created_at: datetime
    references: int = Field(description="Enrolled faces.")

    @classmethod
    def of(cls, subject: Subject) -> "SubjectView":
        """Return a subject as the API shows it."""
        return cls(**{name: getattr(subject, name) for name in cls.model_fields})


class SubjectQuery(Query):
    """Which subjects."""

    collection: Collection | None = None
    limit: Limit = 50
    cursor: CursorText | None = None


class SubjectPage(Answer):
    """Subjects by name."""

    subjects: list[SubjectView]
    next_cursor: str | None


class NewSubject(Query):
    """A person to enrol; photos follow."""

    name: Text
    collection: Collection | None = None
    attributes: Attributes = Field(default_factory=dict)
    consent: Consent | None = None
    expires_at: AwareDatetime | None = None


class SubjectPatch(Query):
    """What to change; what is absent stays. Attributes are merged one by one."""

    name: Text | None = None
    attributes: Attributes | None = None
    consent: Consent | None = None
    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _something(self) -> "SubjectPatch":
        if not self.model_fields_set:
            raise ValueError("give at least one of name, attributes, consent, expires_at")
        return self


_RECEIPT: dict[str, JsonValue] = {
    "receipt_id": "0b7a52d8-8a44-4a0e-9a4c-1f8f6f6d2c11",
    "erased_at": "2026-05-01T08:00:00Z",
    "collection": "default",
    "references": 2,
    "embeddings": 2,
    "sightings": 31,
    "generation": 4711,
    "covered": {"references": 2, "embeddings": 2, "sightings": 31, "thumbnails": 30, "episodes": 9, "alerts": 1, "watchlists": 1},
    "gone_by": {"spool": "2026-05-01T09:00:00Z", "requests": "2026-05-02T08:00:00Z"},
}


class ReceiptView(Answer):
    """Proof of an erasure, without personal data."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_RECEIPT]})

    receipt_id: str
    erased_at: datetime
    collection: str
    references: int
    embeddings: int
    sightings: int = Field(description="Sightings that lost their name, picture and embedding.")
    generation: int = Field(description="The gallery without them.")
    covered: dict[str, int] = Field(description="How much of what was erased, in one transaction.")
    gone_by: dict[str, datetime] = Field(
        description="Copies that are not kept by person, such as frames that an ingester has spooled: gone by then at the latest."
    )

    @classmethod
    def of(cls, receipt: Receipt) -> "ReceiptView":
        """Return a receipt as the API shows it."""
        return cls(**{name: getattr(receipt, name) for name in cls.model_fields})


class ReferenceView(Answer):
    """An enrolled face."""

    reference_id: str
    subject_id: str
    source: str = Field(description="File name as given.")
    quality: float
    quality_reasons: list[str]
    created_at: datetime
    models: list[str] = Field(description="Which models have embedded it.")

    @classmethod
    def of(cls, reference: Reference) -> "ReferenceView":
        """Return a reference as the API shows it."""
        return cls(**{name: getattr(reference, name) for name in cls.model_fields})


class ReferenceList(Answer):
    """The enrolled faces of a subject, oldest first."""

    references: list[ReferenceView]


class EnrollForm(Query):
    """Photos of one subject, one face each."""

    photo: list[bytes] = Field(min_length=1, description="One or several photo files.")


class PhotoResult(Answer):
    """What became of one photo."""

    file: str
    status: Status
    reason: str
    detail: str
    quality: float | None
    reference_id: str | None

    @classmethod
    def of(cls, outcome: Outcome) -> "PhotoResult":
        """Return a photo's outcome as the API shows it."""
        return cls(**{name: getattr(outcome, name) for name in cls.model_fields})


class EnrollAnswer(Answer):
    """What became of each photo, in the order in which they were sent."""

    subject_id: str
    enrolled: int
    results: list[PhotoResult]


class ReferenceErased(Answer):
    """The reference is gone."""

    reference_id: str
    generation: int = Field(description="The gallery with this change in it.")


class GalleryView(Answer):
    """How much is enrolled."""

    subjects: int
    references: int
    generation: int = Field(description="Grows by one with each change of a reference.")
    visible: bool = Field(description="The matcher has every change up to this generation.")
