"""Photos that could not be enrolled without doubt, kept sealed until somebody accepts or discards them. The SQL of ``set_aside``."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import NotFoundError
from core.ports import Database
from core.vault import label_of
from enrollment.changing import enter_subject, locked_subject
from enrollment.record import FaceFound, Photo, Reason, Warned
from enrollment.rows import uuid_or_nothing

MAX_PAGE = 500

_ADD = """
insert into set_aside (set_aside_id, collection, subject_id, source, content_sha256, picture, width_px, height_px, faces, face_index,
    reason, detail, candidates)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (subject_id, content_sha256, reason) do update set detail = excluded.detail returning set_aside_id
"""
_SELECT = """
select a.set_aside_id, a.collection, a.subject_id, s.name as subject, a.source, a.content_sha256, a.width_px, a.height_px, a.faces,
       a.face_index, a.reason, a.detail, a.candidates, a.created_at,
       coalesce((select jsonb_object_agg(o.subject_id, o.name) from subject o
           where o.subject_id in (select (c ->> 'subject_id')::uuid from jsonb_array_elements(a.candidates) c)), '{}') as names
from set_aside a join subject s using (subject_id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubtful:
    """A photo to set aside."""

    photo: Photo
    sha256: bytes
    picture: bytes
    """JPEG without metadata."""
    width_px: int
    height_px: int
    faces: tuple[FaceFound, ...]
    """Pixels of the picture."""
    face_index: int | None
    reason: Reason
    detail: str
    warnings: tuple[Warned, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A photo that waits for somebody's decision."""

    set_aside_id: str
    collection: str
    subject_id: str
    subject: str
    source: str
    content_sha256: bytes
    width_px: int
    height_px: int
    faces: tuple[FaceFound, ...]
    face_index: int | None
    """The face it is about; None: somebody must choose."""
    reason: Reason
    detail: str
    warnings: tuple[Warned, ...]
    """Whom it looks like, as they are called now."""
    created_at: datetime


class SetAsideStore:
    """Keeps what was set aside. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def put(self, doubtful: Doubtful, *, collection: str) -> tuple[str, str]:
        """Set a photo aside, once however often it is sent; return its id and its subject's.

        Raises:
            NotFoundError: the subject was erased meanwhile.
        """
        photo, key = doubtful.photo, uuid.uuid4()
        async with self._db.transaction() as tx:
            if photo.subject_id:
                subject = await locked_subject(tx, photo.subject_id, share=True)
            else:
                subject = await enter_subject(tx, photo.subject, collection, photo.details)
            rows = await tx.fetch(
                _ADD,
                key,
                subject.collection,
                subject.subject_id,
                photo.file,
                doubtful.sha256,
                tx.vault.seal(doubtful.picture, label=label_of("set aside", key)),
                doubtful.width_px,
                doubtful.height_px,
                [{"index": face.index, "box": face.box, "score": face.score} for face in doubtful.faces],
                doubtful.face_index,
                doubtful.reason,
                doubtful.detail,
                [
                    {"kind": one.kind, "subject_id": one.subject_id, "reference_id": one.reference_id, "score": one.score}
                    for one in doubtful.warnings
                ],
            )
        return str(rows[0]["set_aside_id"]), subject.subject_id

    async def get(self, set_aside_id: str) -> SetAside:
        """Return one photo without its picture. Raises NotFoundError."""
        rows = await self._db.fetch(_SELECT + "where a.set_aside_id = $1", uuid_or_nothing(set_aside_id))
        if not rows:
            raise nothing_aside(set_aside_id)
        return _set_aside(rows[0])

    async def picture(self, set_aside_id: str) -> bytes:
        """Return the JPEG. Raises NotFoundError."""
        rows = await self._db.fetch("select picture from set_aside where set_aside_id = $1", uuid_or_nothing(set_aside_id))
        if not rows:
            raise nothing_aside(set_aside_id)
        return self._db.vault.open(rows[0]["picture"], label=label_of("set aside", set_aside_id))

    async def page(
        self,
        collections: Sequence[str] | None,
        *,
        subject_id: str | None = None,
        before: tuple[datetime, uuid.UUID] | None = None,
        limit: int,
    ) -> list[SetAside]:
        """Return what was set aside, newest first.

        Args:
            collections: in these; None = in all.
            subject_id: for this subject; None = for any.
            before: (created_at, id) of the last row of the page before.
            limit: rows at most.
        """
        rows = await self._db.fetch(
            _SELECT + "where ($1::text[] is null or a.collection = any($1)) and ($2::uuid is null or a.subject_id = $2) "
            "and ($3::timestamptz is null or (a.created_at, a.set_aside_id) < ($3, $4::uuid)) "
            "order by a.created_at desc, a.set_aside_id desc limit $5",
            None if collections is None else list(collections),
            subject_id and uuid_or_nothing(subject_id),
            before and before[0],
            before and before[1],
            max(1, min(limit, MAX_PAGE)),
        )
        return [_set_aside(row) for row in rows]

    async def discard(self, set_aside_id: str) -> None:
        """Delete a photo for good. Raises NotFoundError."""
        if not await self._db.execute("delete from set_aside where set_aside_id = $1", uuid_or_nothing(set_aside_id)):
            raise nothing_aside(set_aside_id)


async def forget_set_aside(tx: Database, subject_id: str) -> int:
    """Delete the photos that were set aside for a subject, or look like it; part of its erasure. Returns how many."""
    return await tx.execute(
        "delete from set_aside where subject_id = $1 or candidates @> jsonb_build_array(jsonb_build_object('subject_id', $2::text))",
        uuid_or_nothing(subject_id),
        subject_id,
    )


def nothing_aside(set_aside_id: str) -> NotFoundError:
    """Return the error of an id that nothing has."""
    return NotFoundError(f"set-aside photo {set_aside_id[:80]}: there is none; it was accepted, discarded or is too old")


def _set_aside(row: dict[str, Any]) -> SetAside:
    names = row["names"]
    same = {
        name: row[name]
        for name in ("collection", "subject", "source", "width_px", "height_px", "face_index", "reason", "detail", "created_at")
    }
    return SetAside(
        set_aside_id=str(row["set_aside_id"]),
        subject_id=str(row["subject_id"]),
        content_sha256=bytes(row["content_sha256"]),
        faces=tuple(FaceFound(index=face["index"], box=tuple(face["box"]), score=face["score"]) for face in row["faces"]),
        warnings=tuple(Warned(subject=names[one["subject_id"]], **one) for one in row["candidates"] if one["subject_id"] in names),
        **same,
    )
