"""Everything that is kept of one subject, as a zip with a manifest of hashes: the right of access. Nobody else can be told in it."""

import hashlib
import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

from api.images import without_bystanders
from api.sightings.models import EpisodeView, SightingView
from core.audit.store import AuditStore
from core.errors import NotFoundError
from core.ports import Database
from enrollment.record import Subject
from enrollment.store import GalleryStore
from recognize.still import StillRecognizer
from sightings.alerts import AlertFilter, AlertStore
from sightings.record import Filter
from sightings.store import SightingStore

PAGE: Final = 200
_ALERT: Final = ("alert_id", "watchlist", "camera", "subject_id", "sighting_id", "score", "state", "first_s", "last_s", "raised_s")
"""What is told of an alert: not who worked on it."""
NOTE: Final = (
    "Everything that this deployment keeps of the subject. Faces of other people are blurred in the pictures. Embeddings are left out: "
    "they are made from the pictures and of use to no other system; 'models' says which exist. 'sha256' has the hash of each file."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where an export is taken from."""

    db: Database
    gallery: GalleryStore
    sightings: SightingStore
    still: StillRecognizer
    """Finds the faces that are blurred."""


class _Sink:
    """Takes what a zip file writes, until it is fetched. It can't seek, so sizes and checksums follow each entry."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        """Take some bytes."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: all is taken at once."""

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        data, self._parts = b"".join(self._parts), []
        return data


@dataclass(slots=True)
class _Archive:
    """A zip under way. Memory: one file of it at most."""

    sink: _Sink = field(default_factory=_Sink)
    hashes: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    zip: zipfile.ZipFile = field(init=False)

    def __post_init__(self) -> None:
        self.zip = zipfile.ZipFile(cast(Any, self.sink), "w")

    def add(self, name: str, data: bytes) -> bytes:
        """Add a file and return what there is to send."""
        packed = zipfile.ZIP_STORED if name.endswith(".jpg") else zipfile.ZIP_DEFLATED
        self.zip.writestr(name, data, compress_type=packed)
        self.hashes[name] = hashlib.sha256(data).hexdigest()
        return self.sink.taken()

    @contextmanager
    def lines(self, name: str) -> Iterator["_Lines"]:
        """Write a file of JSON lines piece by piece."""
        info = zipfile.ZipInfo(name, date_time=datetime.now(UTC).timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        with self.zip.open(info, "w", force_zip64=True) as out:
            lines = _Lines(out)
            yield lines
        self.hashes[name] = lines.hash.hexdigest()


class _Lines:
    def __init__(self, out: Any) -> None:
        self._out = out
        self.hash = hashlib.sha256()

    def add(self, value: dict[str, Any]) -> None:
        data = json.dumps(value, ensure_ascii=False, default=str).encode() + b"\n"
        self.hash.update(data)
        self._out.write(data)


async def subject_zip(parts: Sources, subject: Subject) -> AsyncIterator[bytes]:
    """Yield the bytes of the archive, as they are made.

    Raises:
        UnavailableError: the archive ends in the middle, and is no zip then.
    """
    archive = _Archive()
    yield archive.add("subject.json", _json(asdict(subject)))
    async for piece in _references(archive, parts, subject.subject_id):
        yield piece
    async for piece in _sightings(archive, parts, subject.subject_id):
        yield piece
    async for piece in _episodes_and_alerts(archive, parts, subject.subject_id):
        yield piece
    with archive.lines("audit.jsonl") as lines:
        async for entry in AuditStore(parts.db).of_target(subject.subject_id):
            draft = entry.draft
            lines.add({"seq": entry.seq, "at": entry.at, "role": draft.role, "action": draft.action, "purpose": draft.purpose})
    yield archive.sink.taken()
    manifest = {
        "subject_id": subject.subject_id,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": NOTE,
        "left_out": archive.left_out,
        "sha256": dict(archive.hashes),
    }
    yield archive.add("manifest.json", _json(manifest))
    archive.zip.close()
    yield archive.sink.taken()


async def _references(archive: _Archive, parts: Sources, subject_id: str) -> AsyncIterator[bytes]:
    references = await parts.gallery.references(subject_id)
    yield archive.add("references.json", _json([asdict(one) for one in references]))
    for one in references:
        name = f"references/{one.reference_id}.jpg"
        try:
            jpeg = await without_bystanders(parts.still, await parts.gallery.face_jpeg(one.reference_id), own="middle")
        except NotFoundError as err:
            archive.left_out.append(f"{name}: {err}")
            continue
        yield archive.add(name, jpeg)


async def _sightings(archive: _Archive, parts: Sources, subject_id: str) -> AsyncIterator[bytes]:
    pictured: list[str] = []
    cursor: str | None = None
    with archive.lines("sightings.jsonl") as lines:
        while True:
            found, cursor = await parts.sightings.query(Filter(subject=subject_id), limit=PAGE, cursor=cursor)
            for one in found:
                lines.add(SightingView.of(one).model_dump(mode="json"))
                if one.has_thumbnail:
                    pictured.append(one.sighting.sighting_id)
            yield archive.sink.taken()
            if cursor is None:
                break
    for sighting_id in pictured:
        name = f"sightings/{sighting_id}.jpg"
        try:
            jpeg = await without_bystanders(parts.still, await parts.sightings.thumbnail(sighting_id), own="middle")
        except NotFoundError as err:
            archive.left_out.append(f"{name}: {err}")
            continue
        yield archive.add(name, jpeg)


async def _episodes_and_alerts(archive: _Archive, parts: Sources, subject_id: str) -> AsyncIterator[bytes]:
    cursor: str | None = None
    with archive.lines("episodes.jsonl") as lines:
        while True:
            episodes, cursor = await parts.sightings.episodes(Filter(subject=subject_id), limit=PAGE, cursor=cursor)
            for episode in episodes:
                lines.add(EpisodeView.of(episode).model_dump(mode="json"))
            if cursor is None:
                break
    with archive.lines("alerts.jsonl") as lines:
        while True:
            alerts, cursor = await AlertStore(parts.db).query(AlertFilter(subject=subject_id), limit=PAGE, cursor=cursor)
            for alert in alerts:
                lines.add({name: getattr(alert, name) for name in _ALERT})
            if cursor is None:
                break
    yield archive.sink.taken()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str).encode()
