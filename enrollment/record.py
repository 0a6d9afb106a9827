"""The values of this room: what is enrolled, and what became of a photo."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from core.errors import UsageError
from core.types import F32

Status = Literal["enrolled", "unchanged", "rejected"]
Reason = Literal[
    "",
    "no_face",
    "several_faces",
    "too_small",
    "blurred",
    "too_dark",
    "too_bright",
    "low_contrast",
    "extreme_pose",
    "occluded",
    "cut_off",
    "low_detector_score",
    "duplicate",
    "duplicate_of_same_subject",
    "looks_like_another_subject",
    "unreadable",
    "unsupported",
]
"""Why a photo was rejected; docs/enrollment.md says of each what to do."""

MAX_NAME = 200
DEFAULT_COLLECTION = "default"
_COLLECTION = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectDetails:
    """What may be recorded of a subject beside the name. What is given is merged into what is there."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    consent: Mapping[str, Any] | None = None
    """purpose, basis, given_by, given_at."""
    expires_at: datetime | None = None
    """After this instant the subject is no longer matched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A photo to enrol."""

    file: str
    """Name as given by the user: shown in reports, kept as the reference's source."""
    subject: str
    """The subject's name."""
    read: Callable[[], bytes]
    """Returns the file's bytes; blocks; raises UnreadableMediaError or NotFoundError."""
    details: SubjectDetails = field(default_factory=SubjectDetails)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one photo."""

    file: str
    subject: str
    status: Status
    reason: Reason = ""
    detail: str = ""
    """One line for people: what was found, and how to mend it."""
    quality: float | None = None
    """0..1; None where no face was judged."""
    subject_id: str | None = None
    reference_id: str | None = None
    generation: int | None = None
    """The gallery with this change in it; None where nothing changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One enrolled person."""

    subject_id: str
    collection: str
    name: str
    attributes: dict[str, Any]
    consent: dict[str, Any] | None
    expires_at: datetime | None
    created_at: datetime
    references: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One enrolled face, without its picture (see GalleryStore.face_jpeg)."""

    reference_id: str
    subject_id: str
    source: str
    quality: float
    quality_reasons: tuple[str, ...]
    created_at: datetime
    models: tuple[str, ...]
    """Which models have embedded it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReference:
    """A face to store."""

    content_sha256: bytes
    face_index: int
    source: str
    face_jpeg: bytes
    landmarks: F32
    """(5, 2) float32, pixels of face_jpeg."""
    quality: float
    quality_reasons: tuple[str, ...]
    model: str
    vector: F32
    """(D,) float32, L2 norm 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Where a new reference went."""

    subject_id: str
    reference_id: str
    generation: int | None
    """None when it was there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A reference whose photo has the same content."""

    subject_id: str
    subject: str
    reference_id: str
    source: str
    quality: float
    embedded: bool
    """The model in use has embedded it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof of an erasure, without personal data."""

    receipt_id: str
    erased_at: datetime
    references: int
    embeddings: int
    sightings: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much is enrolled."""

    collections: int
    subjects: int
    references: int
    generation: int


def clean_name(name: str) -> str:
    """Return a subject's name in one spelling: Unicode NFC, single blanks, no edges.

    Raises:
        UsageError: empty, longer than MAX_NAME, or with control characters.
    """
    clean = " ".join(unicodedata.normalize("NFC", name).split())
    if not clean:
        raise UsageError("subject name: is empty; give a name of 1 to 200 characters")
    if len(clean) > MAX_NAME:
        raise UsageError(f"subject name: has {len(clean)} characters, at most {MAX_NAME} fit; shorten '{clean[:40]}...'")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") for c in clean):
        raise UsageError(f"subject name {ascii(clean)[:80]}: has characters that can't be shown; remove them")
    return clean


def check_collection(name: str) -> str:
    """Return the name of a collection.

    Raises:
        UsageError: it is not 1 to 64 letters, digits, dots, dashes and underscores.
    """
    if not _COLLECTION.fullmatch(name):
        raise UsageError(f"collection {ascii(name)[:80]}: use 1 to 64 letters, digits, dots, dashes and underscores")
    return name
