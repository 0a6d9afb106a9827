"""Changes of the gallery: each under a generation of its own, told to the matchers when the transaction commits.

Lock order, so that no two transactions wait for each other: subjects (by id), then the one row of ``gallery_generation``.
"""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from core.ports import Database

CHANNEL = "gallery"
KEEP_CHANGES = timedelta(days=7)

_ADD_CHANGE = """
insert into gallery_change (generation, action, collection, subject_id, reference_id) values ($1, $2, $3, $4, $5)
"""
_TRIM_CHANGES = """
delete from gallery_change
where generation in (
    select generation from (select * from gallery_change order by generation limit $1) oldest where changed_at < now() - $2::interval)
"""


async def lock_generation(tx: Database) -> int:
    """Return the present generation; nobody else changes the gallery until the transaction ends."""
    return int((await tx.fetch("select generation from gallery_generation for update"))[0]["generation"])


async def tell_changes(tx: Database, action: str, *, collection: str, subject_id: str, reference_ids: Sequence[uuid.UUID]) -> int:
    """Record changes under new generations, tell the listeners at commit, and return the last generation.

    Each change takes two old ones away: who is further behind than KEEP_CHANGES loads the gallery again, as for any gap.

    Args:
        tx: the transaction that makes them.
        action: ``put`` (added, or its subject changed) or ``delete``.
        collection: of the subject.
        subject_id: whose references they are, or were.
        reference_ids: one change each.
    """
    rows = await tx.fetch("update gallery_generation set generation = generation + $1 returning generation", len(reference_ids))
    last = int(rows[0]["generation"])
    first = last - len(reference_ids) + 1
    changes = [(first + place, action, collection, subject_id, reference_id) for place, reference_id in enumerate(reference_ids)]
    await tx.executemany(_ADD_CHANGE, changes)
    await tx.execute(_TRIM_CHANGES, 2 * len(changes), KEEP_CHANGES)
    await tx.execute("select pg_notify($1, $2)", CHANNEL, str(last))
    return last


async def tell_subject(tx: Database, *, collection: str, subject_id: str) -> int | None:
    """Tell that all references of a subject changed with it (name, validity, consent); None when it has none."""
    rows = await tx.fetch("select reference_id from reference where subject_id = $1 order by reference_id", subject_id)
    if not rows:
        return None
    ids = [row["reference_id"] for row in rows]
    return await tell_changes(tx, "put", collection=collection, subject_id=subject_id, reference_ids=ids)
