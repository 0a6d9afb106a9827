"""Changes of the gallery: each under a generation of its own, told to the matchers when the transaction commits.

Lock order, so that no two transactions wait for each other: subjects (by id), then the one row of ``gallery_generation``.
"""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from core.ports import Database

CHANNEL = "gallery"
KEEP_CHANGES = timedelta(days=7)

_ADD_CHANGES = """
insert into gallery_change (generation, action, collection, subject_id, reference_id)
select $1 + place - 1, $2, $3, subject_id, reference_id
from unnest($4::uuid[], $5::uuid[]) with ordinality as given (subject_id, reference_id, place)
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
    return await tell_batch(tx, action, collection=collection, changes=[(subject_id, reference_id) for reference_id in reference_ids])


async def tell_batch(tx: Database, action: str, *, collection: str, changes: Sequence[tuple[uuid.UUID | str, uuid.UUID]]) -> int:
    """Record changes of several subjects, (subject_id, reference_id) each; see tell_changes."""
    rows = await tx.fetch("update gallery_generation set generation = generation + $1 returning generation", len(changes))
    last = int(rows[0]["generation"])
    first = last - len(changes) + 1
    await tx.execute(_ADD_CHANGES, first, action, collection, [one for one, _ in changes], [one for _, one in changes])
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
