"""The values of this room: what is enrolled, and what became of a photo."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

import msgspec

from core.errors import UsageError
from core.types import F32

Status = Literal["enrolled", "unchanged", "set_aside", "rejected"]
OnDoubt = Literal["reject", "set_aside", "enroll"]
"""What becomes of a face that is poor, looks like somebody else, or is one of several: see enrollment.service."""
ConsentState = Literal["given", "expired", "withdrawn", "none"]
Reason = Literal[
    "",
    "no_face",
    "several_faces",
    "no_such_face",
    "others_rejected",
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
MAX_ATTRIBUTES_BYTES = 64 << 10  # of JSON
CONSENT_FIELDS = ("purpose", "basis", "given_by", "given_at", "expires_at", "withdrawn_at")
DEFAULT_COLLECTION = "default"
_COLLECTION = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectDetails:
    """What may be recorded of a subject beside the name. What is given is merged into what is there."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    consent: Mapping[str, Any] | None = None
    """purpose, basis, given_by, given_at, expires_at, withdrawn_at: times with their offset, as RFC 3339."""
    expires_at: datetime | None = None
    """After this instant the subject is no longer matched."""
    valid_from: datetime | None = None
    """Before this instant it is not matched yet."""
    external_id: str | None = None
    """The integrator's own id, unique in the collection."""
    notes: str | None = None


class SubjectChange(TypedDict, total=False):
    """What to change of a subject: what is absent stays, None clears."""

    name: str
    external_id: str | None
    notes: str | None
    attributes: Mapping[str, Any] | None
    """Merged one by one; a value of None takes the attribute away."""
    consent: Mapping[str, Any] | None
    """Merged likewise."""
    valid_from: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectFilter:
    """Which subjects of a collection are asked for; None asks for all."""

    name_prefix: str | None = None
    name_contains: str | None = None
    """Upper and lower case are alike here."""
    external_id: str | None = None
    attribute: tuple[str, str] | None = None
    """Key, and value as text: ``7`` finds the number and the text."""
    consent: ConsentState | None = None
    expired: bool | None = None
    """Whether its validity or consent is over."""


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
    subject_id: str | None = None
    """Of a subject that is there; its name alone would be made anew if it was renamed meanwhile."""
    face: int | tuple[float, float] | None = None
    """Which face: its index in the answer of a first try, or a point inside its box, pixels of the upright photo."""
    sha256: bytes | None = None
    """Of the file that this picture was made from; None = of the bytes themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceFound:
    """A face of a photo, for somebody to choose."""

    index: int
    box: tuple[float, float, float, float]
    """Pixels of the upright photo."""
    score: float
    """Of the detector, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Somebody else whom a face looks like, or who has the same picture."""

    kind: Literal["duplicate", "lookalike"]
    subject_id: str
    subject: str
    reference_id: str
    score: float
    """Cosine; 1 for the same picture."""


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
    quality_reasons: tuple[str, ...] = ()
    """What lowers it, worst first."""
    faces: tuple[FaceFound, ...] = ()
    """All faces of the photo, where it was looked at."""
    face_index: int | None = None
    """The one that counts."""
    warnings: tuple[Warned, ...] = ()
    set_aside_id: str | None = None
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
    external_id: str | None = None
    notes: str | None = None
    valid_from: datetime | None = None
    ends_at: datetime | None = None
    """From when on it is not matched: ``expires_at``, the consent's expiry or its withdrawal, whichever is first."""
    version: int = 1


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
    collection: str
    references: int
    embeddings: int
    sightings: int
    generation: int
    covered: dict[str, int]
    """How much of what was erased."""
    gone_by: dict[str, datetime]
    """Copies that are not kept by person, and when they are gone at the latest."""


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


def check_consent(consent: Mapping[str, Any]) -> dict[str, Any]:
    """Return a consent record as it is stored: texts, and times in UTC; fields without a value are left out.

    Raises:
        UsageError: a field that there is not, or a time without offset.
    """
    stored: dict[str, Any] = {}
    for name, value in consent.items():
        if name not in CONSENT_FIELDS:
            raise UsageError(f"consent: has no field {ascii(name)[:40]}; there are {', '.join(CONSENT_FIELDS)}")
        if value is not None:
            stored[name] = _instant(name, value) if name.endswith("_at") else check_text(f"consent.{name}", str(value))
    return stored


def check_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that the database can keep.

    Raises:
        UsageError: more than MAX_ATTRIBUTES_BYTES of JSON, NUL characters, or numbers beyond 64 bits.
    """
    try:
        size = len(msgspec.json.encode(attributes))
    except (msgspec.MsgspecError, OverflowError, TypeError, UnicodeError, ValueError, RecursionError) as err:
        raise UsageError(f"attributes: can't be kept: {str(err)[:100]}") from err
    if size > MAX_ATTRIBUTES_BYTES:
        raise UsageError(f"attributes: {size} bytes of JSON, at most {MAX_ATTRIBUTES_BYTES} fit")
    _check_texts(attributes)
    return dict(attributes)


def check_text(what: str, text: str) -> str:
    """Return a text that the database can keep. Raises UsageError."""
    if "\x00" in text or (not text.isascii() and any(0xD800 <= ord(c) < 0xE000 for c in text)):
        raise UsageError(f"{what}: holds a character that is none")
    return text


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        check_text("attributes", value)
    elif isinstance(value, Mapping):
        _check_texts([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for one in value:
            _check_texts(one)


def _instant(name: str, value: Any) -> str:
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as err:
        raise UsageError(f"consent.{name}: {ascii(value)[:40]} is no time; give one like 2030-01-31T00:00:00Z") from err
    if when.tzinfo is None:
        raise UsageError(f"consent.{name}: {when.isoformat()} has no offset; add Z or +01:00")
    return when.astimezone(UTC).isoformat()
