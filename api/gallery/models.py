"""Bodies and queries of collections, subjects and merges."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue

from api.models import Answer, CursorText, Limit, Line, Name, Prose, Query
from enrollment.collections import Collection
from enrollment.merging import Merge
from enrollment.record import ConsentState, Receipt, Subject

Attributes = Annotated[dict[str, JsonValue], Field(max_length=100, description="Anything the integrator wants to keep.")]
_EXAMPLE: dict[str, Any] = {
    "name": "Ada Lovelace",
    "external_id": "hr-4711",
    "attributes": {"department": "analysis", "desk": 7},
    "valid_until": "2030-01-01T00:00:00Z",
    "consent": {"purpose": "access control", "basis": "contract", "given_by": "Ada Lovelace", "given_at": "2026-01-15T09:30:00Z"},
}


# --- collections ---------------------------------------------------------------------------------------------------------------


class CollectionView(Answer):
    """A gallery of people."""

    name: str
    description: str
    attributes: dict[str, Any]
    created_at: datetime
    version: int = Field(description="Grows with each change; also the ETag.")
    subjects: int
    references: int

    @classmethod
    def of(cls, collection: Collection) -> "CollectionView":
        """Return a collection as the API shows it."""
        return cls(**{name: getattr(collection, name) for name in cls.model_fields})


class CollectionQuery(Query):
    """Which page of collections."""

    limit: Limit = 50
    cursor: CursorText | None = None


class CollectionPage(Answer):
    """Collections by name."""

    collections: list[CollectionView]
    next_cursor: str | None


class NewCollection(Query):
    """A gallery to make."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "visitors", "description": "Erased every evening."}]})
    name: Name
    description: Prose = ""
    attributes: Attributes = Field(default_factory=dict)


class CollectionPatch(Query):
    """What to change; what is absent stays, null clears. Attributes are merged one by one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"description": "Contractors", "attributes": {"site": "north"}}]})
    description: Prose | None = None
    attributes: Attributes | None = None


class EraseCollectionQuery(Query):
    """How a collection goes."""

    erase: bool = Field(default=False, description="Erase everybody in it; needs the permission subjects.erase.")


class CollectionErased(Answer):
    """What was erased, with a receipt for each person."""

    collection: str
    removed: bool = Field(description="The collection is gone. If not, there were more people than one request erases: ask again.")
    receipts: list["ReceiptView"]


# --- subjects ------------------------------------------------------------------------------------------------------------------


class Consent(Query):
    """On what grounds somebody is enrolled. When it ends or is withdrawn, the person is not matched any more."""

    purpose: Line | None = None
    basis: Line | None = None
    given_by: Line | None = None
    given_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = Field(default=None, description="From then on the person is not matched.")
    withdrawn_at: AwareDatetime | None = Field(default=None, description="From then on the person is not matched.")


class SubjectView(Answer):
    """An enrolled person."""

    subject_id: str
    collection: str
    name: str
    external_id: str | None
    notes: str | None
    attributes: dict[str, Any]
    consent: dict[str, Any] | None
    valid_from: datetime | None = Field(description="Before it the person is not matched.")
    valid_until: datetime | None = Field(description="From then on the person is not matched.")
    ends_at: datetime | None = Field(description="`valid_until`, the consent's expiry or its withdrawal, whichever is first.")
    valid: bool = Field(description="The person is matched at present.")
    created_at: datetime
    version: int = Field(description="Grows with each change; also the ETag.")
    references: int = Field(description="Enrolled faces.")

    @classmethod
    def of(cls, subject: Subject) -> "SubjectView":
        """Return a subject as the API shows it."""
        now = datetime.now(UTC)
        begun = subject.valid_from is None or subject.valid_from <= now
        same = {name: getattr(subject, name) for name in cls.model_fields if name not in ("valid", "valid_until")}
        return cls(**same, valid_until=subject.expires_at, valid=begun and (subject.ends_at is None or subject.ends_at > now))


class SubjectQuery(Query):
    """Which subjects of a collection."""

    collection: Name | None = Field(default=None, description="Without it, the one that cameras search.")
    name_prefix: Line | None = None
    name_contains: Line | None = Field(default=None, description="Upper and lower case are alike.")
    external_id: Line | None = None
    attribute: Annotated[str | None, Field(pattern=r"^[^:\x00-\x1f]{1,100}:[^\x00-\x1f]{0,200}$", examples=["department:analysis"])] = None
    consent: ConsentState | None = Field(default=None, description="`given`: recorded and in force.")
    expired: bool | None = Field(default=None, description="Whether validity or consent is over.")
    limit: Limit = 50
    cursor: CursorText | None = None


class SubjectPage(Answer):
    """Subjects by name."""

    subjects: list[SubjectView]
    next_cursor: str | None


class SubjectFields(Query):
    """What may be recorded of a person beside the name."""

    external_id: Line | None = Field(default=None, description="The integrator's own id, unique in the collection.")
    notes: Prose | None = None
    attributes: Attributes = Field(default_factory=dict)
    consent: Consent | None = None
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None


class NewSubject(SubjectFields):
    """A person to enrol; photos follow."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})
    name: Line
    collection: Name | None = Field(default=None, description="Without it, the one that cameras search.")


class SubjectPatch(Query):
    """What to change; what is absent stays, null clears. Attributes and consent are merged one by one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"notes": None, "consent": {"withdrawn_at": "2026-06-01T12:00:00Z"}}]})
    name: Line = Field(default_factory=str)
    external_id: Line | None = None
    notes: Prose | None = None
    attributes: Attributes | None = None
    consent: Consent | None = None
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None


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


class GalleryView(Answer):
    """How much is enrolled."""

    subjects: int
    references: int
    generation: int = Field(description="Grows by one with each change of a reference.")
    visible: bool = Field(description="Every matcher has every change up to this generation.")


# --- merges --------------------------------------------------------------------------------------------------------------------


class NewMerge(Query):
    """Two subjects who are one person."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"other_subject_id": "5a1e4c1e-8f0b-4a53-9b4e-0d7c2f6d3a11"}]})
    other_subject_id: UUID = Field(description="Who becomes the other; of the same collection.")
    name: Line | None = Field(default=None, description="Of the survivor from now on; without it, as it is.")


class MergeView(Answer):
    """A merge; it can be undone until one of the two is erased."""

    merge_id: str
    collection: str
    survivor_id: str
    merged_id: str
    merged: str = Field(description="Name of the subject that is no more.")
    references: int = Field(description="That moved.")
    sightings: int = Field(description="That moved.")
    actor: str
    merged_at: datetime
    undone_at: datetime | None

    @classmethod
    def of(cls, merge: Merge) -> "MergeView":
        """Return a merge as the API shows it."""
        return cls(**{name: getattr(merge, name) for name in cls.model_fields})


class MergeList(Answer):
    """Merges by which others became this subject, newest first."""

    merges: list[MergeView]
