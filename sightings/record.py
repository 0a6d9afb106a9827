"""A sighting as it is stored and read back, and the checks that keep unreadable ones out of the database. Pure."""

import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Literal

import numpy as np
from msgspec.structs import astuple

from core.errors import MessageError, NotFoundError, UsageError
from core.schema import Sighting, SightingOutcome
from core.types import F32

MAX_THUMBNAIL_BYTES = 1 << 20  # ours are about 10 KiB; a larger one is damage
MAX_TEXT = 1000  # characters; ids are derived from camera names, which are at most 64 long
AlertState = Literal["new", "acknowledged", "confirmed", "rejected", "closed"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_S = 32503680000.0  # year 3000; later times are damage, and must not sort above real ones for ever
_INT32_MAX = (1 << 31) - 1
_INT53_MAX = (1 << 53) - 1  # what JSON's readers keep exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A sighting message that passed :func:`check_sighting`, with its thumbnail."""

    sighting: Sighting
    thumbnail: bytes | None
    """JPEG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSighting:
    """A sighting as people see it."""

    sighting: Sighting
    """The highest revision; never with its embedding, and with its path only when fetched alone. The name is the gallery's present one."""
    episode_id: str | None
    has_thumbnail: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFace:
    """The face of a stored sighting, for searches."""

    sighting_id: str
    camera: str
    outcome: SightingOutcome
    quality: float
    first_s: float
    last_s: float
    revision: int
    model: str
    embedding: F32
    """(D,) float32, L2 norm 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEpisode:
    """An episode as people see it."""

    episode_id: str
    camera: str
    collection: str
    subject_id: str
    subject: str
    first_s: float
    last_s: float
    sightings: int
    best_sighting_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlert:
    """An alert as people see it: somebody of a watchlist was seen, or a stranger."""

    alert_id: str
    kind: Literal["match", "stranger"]
    watchlist: str
    collection: str | None
    """Of the watchlist; None for one that was removed before alerts kept it."""
    camera: str
    subject_id: str | None
    """None for strangers; also, as the other things that say who it was, once the subject was erased."""
    subject: str | None
    sighting_id: str | None
    """The best sighting when it was raised."""
    score: float | None
    episode_id: str | None
    """None when the identification was taken back since."""
    first_s: float
    last_s: float
    state: AlertState
    raised_s: float
    acknowledgement: bool
    """Must be acknowledged before it is closed."""
    acknowledged_by: str | None
    acknowledged_s: float | None
    assigned_to: str | None
    colour: str | None
    """Of the watchlist as it is now; None when that is gone."""
    sound: str | None
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a batch of arrivals changed."""

    sightings: list[Sighting]
    """Those that changed, as they were stored."""
    new: frozenset[str] = frozenset()
    """Ids of those that were not known before."""
    alerts: list[StoredAlert]
    """Those that were raised."""
    dropped: int = 0
    """Sightings of people who have opted out, which were not stored, or deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which sightings or episodes are asked for; None asks for all."""

    camera: str | None = None
    subject: str | None = None
    """A subject's id, or its present name."""
    outcome: SightingOutcome | None = None
    """Of sightings only."""
    since_s: float | None = None
    """Unix seconds: what ended at or after it."""
    until_s: float | None = None
    """Unix seconds: what began before it."""
    cameras: frozenset[str] | None = None
    """Of these cameras only: what is granted to who asks."""
    collections: frozenset[str] | None = None
    """Likewise, compared with these collections only."""

    def __post_init__(self) -> None:
        for name, text in (("camera", self.camera), ("subject", self.subject)):
            if text is not None and "\x00" in text:
                raise UsageError(f"{name}: holds a NUL character")
        for name, time_s in (("since", self.since_s), ("until", self.until_s)):
            if time_s is not None and not 0 <= time_s <= LATEST_S:
                raise UsageError(f"{name}: {time_s} is not a Unix time between 1970 and 3000")


def at(time_s: float) -> datetime:
    """Return Unix seconds as an aware time, rounded to microseconds."""
    return _EPOCH + timedelta(seconds=time_s)


def seconds(time: datetime) -> float:
    """Return an aware time as Unix seconds."""
    return (time - _EPOCH).total_seconds()


def check_sighting(sighting: Sighting, thumbnail: bytes) -> Arrival:
    """Check all that the database would refuse or that would mislead people.

    Args:
        sighting: as decoded from the wire.
        thumbnail: JPEG bytes, or none.

    Raises:
        MessageError: naming the field and what is wrong with it.
    """
    for name, problem in _problems(sighting):
        if problem:
            raise MessageError(f"Sighting.{name}: {problem}")
    if len(thumbnail) > MAX_THUMBNAIL_BYTES or (thumbnail and not thumbnail.startswith(b"\xff\xd8\xff")):
        raise MessageError(f"Sighting thumbnail: {len(thumbnail)} bytes that are not a JPEG of at most {MAX_THUMBNAIL_BYTES} bytes")
    return Arrival(sighting=sighting, thumbnail=thumbnail or None)


def _problems(sighting: Sighting) -> Iterable[tuple[str, str]]:
    for name in ("sighting_id", "subject_id", "reference_id"):
        yield name, _id_problem(getattr(sighting, name), required=name == "sighting_id")
    for name in ("track_id", "camera", "region", "reason", "collection", "subject", "model"):
        yield name, _text_problem(getattr(sighting, name), required=name in ("track_id", "camera", "collection", "model"))
    for name, most in (("revision", _INT53_MAX), ("faces", _INT32_MAX), ("shards_missing", _INT32_MAX)):
        yield name, "" if 0 <= getattr(sighting, name) <= most else f"{getattr(sighting, name)} is not within 0..{most}"
    for name in ("first_s", "last_s", "best_s"):
        yield name, "" if 0 <= getattr(sighting, name) <= LATEST_S else f"{getattr(sighting, name)} is not a Unix time"
    for name in ("score", "threshold", "quality"):
        value = getattr(sighting, name)
        yield name, "" if value is None or -2 <= value <= 2 else f"{value} is out of range"
    yield "last_s", "before first_s" if sighting.last_s < sighting.first_s else ""
    numbers = {"best_box": sighting.best_box, "path": chain.from_iterable(map(astuple, sighting.path)), "times": astuple(sighting.times)}
    for name, values in numbers.items():
        yield name, "" if all(map(math.isfinite, values)) else "not finite"
    named = sighting.subject_id is not None and sighting.subject is not None
    yield "outcome", "subject without subject_id or name" if sighting.outcome == "subject" and not named else ""
    yield "embedding", _embedding_problem(sighting)
    yield "weak_for", "" if all(map(parse_id, sighting.weak_for)) else "not UUIDs"


def _id_problem(value: str | None, *, required: bool) -> str:
    if value is None:
        return "missing" if required else ""
    return "" if parse_id(value) else "not a UUID"


def _text_problem(value: str | None, *, required: bool) -> str:
    if not value:
        return "empty" if required else ""
    if "\x00" in value:
        return "holds a NUL character"
    return f"{len(value)} characters, more than {MAX_TEXT}" if len(value) > MAX_TEXT else ""


def _embedding_problem(sighting: Sighting) -> str:
    if sighting.embedding is None:
        return ""
    vector = sighting.embedding.unpack()
    if vector.ndim != 1 or vector.dtype != np.dtype("<f4"):
        return f"expected N float32, got {vector.shape} {vector.dtype}"
    return "" if np.isfinite(vector).all() else "not finite"


def parse_id(text: str) -> uuid.UUID | None:
    """Return the UUID that a text spells, or None."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def required_id(kind: str, text: str) -> uuid.UUID:
    """Return the UUID that a text spells. Raises NotFoundError: it spells none, so there is nothing of this id."""
    key = parse_id(text)
    if key is None:
        raise NotFoundError(f"{kind} {text[:64]}: ids are UUIDs")
    return key
