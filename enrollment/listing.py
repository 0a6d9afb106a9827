"""The references of a whole collection, page by page: for interfaces that know faces rather than people."""

from dataclasses import dataclass
from typing import Any

from core.ports import Database
from enrollment.rows import uuid_or_nothing

_LIST = """
select r.reference_id, s.subject_id, s.name
from reference r join subject s using (subject_id)
where s.collection = $1 and ($2::text is null or s.name = $2) and ($3::uuid is null or r.reference_id > $3)
order by r.reference_id limit $4 offset $5
"""
_COUNT = """
select count(*) as n from reference join subject s using (subject_id) where s.collection = $1 and ($2::text is null or s.name = $2)
"""
_FIND = """
select r.reference_id, s.subject_id, s.name from reference r join subject s using (subject_id)
where r.reference_id = $1 and s.collection = $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFace:
    """A reference, and whose it is."""

    reference_id: str
    subject_id: str
    subject: str


async def list_faces(
    db: Database, collection: str, *, subject: str | None = None, after: str | None = None, skip: int = 0, limit: int = 100
) -> list[ListedFace]:
    """Return references by id.

    Args:
        db: the database.
        collection: whose.
        subject: only of this name.
        after: id of the last one of the page before.
        skip: leave out so many first.
        limit: most of them.
    """
    key = uuid_or_nothing(after) if after else None
    rows = await db.fetch(_LIST, collection, subject, key, limit, skip)
    return [_face(row) for row in rows]


async def count_faces(db: Database, collection: str, *, subject: str | None = None) -> int:
    """Return how many references there are."""
    return int((await db.fetch(_COUNT, collection, subject))[0]["n"])


async def face_of(db: Database, collection: str, reference_id: str) -> ListedFace | None:
    """Return a reference of a collection, or None."""
    key = uuid_or_nothing(reference_id)
    rows = await db.fetch(_FIND, key, collection) if key else []
    return _face(rows[0]) if rows else None


def _face(row: dict[str, Any]) -> ListedFace:
    return ListedFace(reference_id=str(row["reference_id"]), subject_id=str(row["subject_id"]), subject=row["name"])
