"""Sightings of people who have opted out: never stored, and deleted where they were told of before anybody knew who it was."""

import uuid
from collections.abc import Sequence

from core.ports import Database
from sightings.cases import forget_case_sightings

KEPT = "2 days"  # a revision of a dropped sighting comes within seconds, or within hours from a log that was away

_NOTE = "insert into dropped_sighting (sighting_id) select unnest($1::uuid[]) on conflict do nothing"
# an alert about somebody else keeps what it told, but not the picture
_FORGET_ALERTS = "delete from alert where sighting_id = any($1::uuid[]) and subject_id is null"
_UNLINK_ALERTS = "update alert set sighting_id = null where sighting_id = any($1::uuid[])"
_DROP_SUBJECT = """
with gone as (delete from sighting where subject_id = $1 returning sighting_id),
     noted as (insert into dropped_sighting (sighting_id) select sighting_id from gone on conflict do nothing)
select sighting_id from gone
"""


async def drop(db: Database, ids: Sequence[uuid.UUID]) -> None:
    """Delete sightings, pictures and embeddings with them, and note that what still comes of them is dropped too.

    Part of the caller's transaction, under the locks of their cameras; the caller makes their episodes right.
    """
    await db.execute(_NOTE, list(ids))
    await db.execute("delete from sighting where sighting_id = any($1::uuid[])", list(ids))
    await forget_case_sightings(db, ids)
    await db.execute(_FORGET_ALERTS, list(ids))
    await db.execute(_UNLINK_ALERTS, list(ids))


async def drop_subject(db: Database, subject_id: uuid.UUID) -> list[uuid.UUID]:
    """Delete all that was ever stored of a subject's sightings, with episodes and alerts; return the sightings' ids.

    Part of the caller's transaction, in which the subject opts out, and which holds the lock against those who store.
    """
    gone = [row["sighting_id"] for row in await db.fetch(_DROP_SUBJECT, subject_id)]
    await forget_case_sightings(db, gone)
    await db.execute("delete from alert where subject_id = $1", subject_id)
    await db.execute(_UNLINK_ALERTS, gone)
    await db.execute("delete from episode where subject_id = $1", subject_id)
    return gone


async def forget_drops(db: Database) -> None:
    """Delete the notes of sightings that were dropped long ago."""
    await db.execute(f"delete from dropped_sighting where dropped_at < now() - interval '{KEPT}'")
