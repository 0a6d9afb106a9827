"""The log of what happened, for live streams, webhooks and MQTT: written in the transaction that made it true, read in order by id.

Events name rows by id and carry nothing of a person: readers look the rows up when they deliver, so an erasure is in effect for events
that were not delivered yet, and for those that are delivered again.
"""

from typing import Literal

from core.ports import Database

CHANNEL = "event"
"""Of NOTIFY, for each commit with events; the payload is the newest id."""
EventKind = Literal["sighting", "alert", "camera", "job", "gallery", "person"]

# Ids must follow the order of commits, or a reader that has seen 7 misses a 6 that commits later: writers take turns until they commit.
_LOCK = "select pg_advisory_xact_lock(hashtextextended('sightline/event', 0))"
_ADD = """
with added as (
    insert into event (kind, key, revision, camera, collection, watchlist)
    select $1, key, revision, $4, $5, $6 from unnest($2::text[], $3::bigint[]) t (key, revision)
    returning event_id)
select pg_notify('event', max(event_id)::text) from added having count(*) > 0
"""


async def tell(
    tx: Database,
    kind: EventKind,
    keys: list[tuple[str, int]],
    *,
    camera: str | None = None,
    collection: str | None = None,
    watchlist: str | None = None,
) -> None:
    """Add events; call it last in a transaction, for others wait until that ends.

    Args:
        tx: the transaction that makes it true.
        kind: of all of them.
        keys: (id of the row, its revision or version).
        camera: where, if it is about one: who may not see the camera is not told.
        collection: of the gallery, likewise.
        watchlist: likewise.
    """
    await tx.fetch(_LOCK)
    await tx.fetch(_ADD, kind, [key for key, _ in keys], [revision for _, revision in keys], camera, collection, watchlist)
