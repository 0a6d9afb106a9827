"""Names that somebody took from a sighting: no later revision brings them back."""

import uuid
from collections.abc import Sequence

import msgspec

from core.ports import Database
from sightings.record import Arrival

REJECTED_REASON = "rejected_pair"

_WRONG = """
select f.sighting_id, f.subject_id from feedback f
where f.verdict = 'wrong_person' and f.sighting_id = any($1::uuid[])
"""


async def without_wrong_names(db: Database, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Return the sightings; a name that was said to be wrong for its very sighting is left out."""
    named = [uuid.UUID(one.sighting.sighting_id) for one in arrivals if one.sighting.subject_id]
    wrong = {(row["sighting_id"], row["subject_id"]) for row in await db.fetch(_WRONG, named)} if named else set()
    return [_nameless(one) if wrong and _pair(one) in wrong else one for one in arrivals]


def _pair(arrival: Arrival) -> tuple[uuid.UUID, uuid.UUID | None]:
    sighting = arrival.sighting
    return uuid.UUID(sighting.sighting_id), uuid.UUID(sighting.subject_id) if sighting.subject_id else None


def _nameless(arrival: Arrival) -> Arrival:
    sighting = msgspec.structs.replace(
        arrival.sighting, outcome="stranger", reason=REJECTED_REASON, subject_id=None, subject=None, reference_id=None, weak_for=()
    )
    return Arrival(sighting=sighting, thumbnail=arrival.thumbnail)
