"""What people have ruled on sightings that arrive: names they gave or took, subjects that are one, who opted out, who was erased.

Cameras go on telling of a track after that. One look into the database tells what holds for a batch; applying it is pure.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from core.ports import Database
from core.schema import Sighting
from sightings.record import Arrival

NAMED_REASON = "named"
"""Of a sighting that a person named."""
REJECTED_REASON = "rejected_pair"
"""Of a sighting whose name was said to be wrong."""
FORGOTTEN_REASON = "erased"
"""Of a sighting whose subject was erased."""

# the whole chain of merges is followed; what holds for an arriving subject may hold for the one it was merged into
_RULINGS = """
with recursive chain as (
    select merged_id as start_id, survivor_id, merge_id as first_merge_id from subject_merge
    where undone_at is null and merged_id = any($2::uuid[])
    union all
    select c.start_id, m.survivor_id, c.first_merge_id
    from chain c join subject_merge m on m.merged_id = c.survivor_id and m.undone_at is null),
who as (select unnest($2::uuid[]) as subject_id union select survivor_id from chain)
select 'given' as kind, n.sighting_id as key, n.subject_id, s.name, n.reference_id, null::uuid as merge_id
from sighting_naming n join subject s using (subject_id) where n.sighting_id = any($1::uuid[])
union all
select 'merged', c.start_id, c.survivor_id, s.name, null, c.first_merge_id from chain c join subject s on s.subject_id = c.survivor_id
union all
select 'rejected', sighting_id, subject_id, null, null, null from feedback
where verdict = 'wrong_person' and sighting_id = any($1::uuid[])
union all
select 'dropped', sighting_id, null, null, null, null from dropped_sighting where sighting_id = any($1::uuid[])
union all
select 'opted_out', null, subject_id, null, null, null from opt_out where subject_id in (select subject_id from who)
union all
select 'forgotten', null, subject_id, null, null, null from forgotten_subject where subject_id in (select subject_id from who)
"""
_PART = "insert into subject_merge_part (merge_id, kind, part_id) values ($1, 'sighting', $2) on conflict do nothing"


@dataclass(frozen=True, slots=True)
class _Name:
    subject_id: uuid.UUID
    subject: str
    reference_id: uuid.UUID | None
    merge_id: uuid.UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulings:
    """What holds for a batch of arriving sightings, whatever recognition says of them."""

    given: dict[uuid.UUID, _Name] = field(default_factory=dict)
    """Names that people gave, by sighting."""
    merged: dict[uuid.UUID | None, _Name] = field(default_factory=dict)
    """Who a subject is now, by the subject that was merged."""
    rejected: set[tuple[uuid.UUID, uuid.UUID | None]] = field(default_factory=set)
    """(sighting, subject): names that somebody said are wrong."""
    dropped: set[uuid.UUID] = field(default_factory=set)
    """Sightings of people who have opted out: what comes late of them may name nobody."""
    opted_out: set[uuid.UUID | None] = field(default_factory=set)
    """Subjects."""
    forgotten: set[uuid.UUID | None] = field(default_factory=set)
    """Subjects that were erased."""

    def apply(self, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[uuid.UUID]]:
        """Return the arrivals that may be stored, as they are to be stored, and the ids of the others.

        A recognizer says which sightings are to be dropped. One that does not know yet that somebody has opted out names them.
        """
        kept: list[Arrival] = []
        gone: list[uuid.UUID] = []
        for arrival in arrivals:
            now = self._after_merges(arrival)
            key, subject_id = uuid.UUID(now.sighting.sighting_id), _subject_of(now.sighting)
            if now.sighting.dropped or key in self.dropped or subject_id in self.opted_out:
                gone.append(key)
            else:
                kept.append(self._as_given(key, self._without_wrong_name(key, subject_id, now)))
        return kept, gone

    def parts(self, arrivals: Sequence[Arrival]) -> list[tuple[uuid.UUID, uuid.UUID]]:
        """Return (merge, sighting) of the arrivals that a merge renames: undoing it gives them back."""
        merges = [(self.merged.get(_subject_of(one.sighting)), uuid.UUID(one.sighting.sighting_id)) for one in arrivals]
        return [(merged.merge_id, key) for merged, key in merges if merged and merged.merge_id]

    def _after_merges(self, arrival: Arrival) -> Arrival:
        now = self.merged.get(_subject_of(arrival.sighting))
        if now is None:
            return arrival
        return replace(arrival, sighting=msgspec.structs.replace(arrival.sighting, subject_id=str(now.subject_id), subject=now.subject))

    def _without_wrong_name(self, key: uuid.UUID, subject_id: uuid.UUID | None, arrival: Arrival) -> Arrival:
        if subject_id in self.forgotten:
            bare = msgspec.structs.replace(_nameless(arrival.sighting, FORGOTTEN_REASON), score=None, embedding=None)
            return Arrival(sighting=bare, thumbnail=None)
        if (key, subject_id) in self.rejected:
            return replace(arrival, sighting=_nameless(arrival.sighting, REJECTED_REASON))
        return arrival

    def _as_given(self, key: uuid.UUID, arrival: Arrival) -> Arrival:
        now = self.given.get(key)
        if now is None:
            return arrival
        named = msgspec.structs.replace(
            arrival.sighting,
            outcome="subject",
            reason=NAMED_REASON,
            subject_id=str(now.subject_id),
            subject=now.subject,
            reference_id=now.reference_id and str(now.reference_id),
        )
        return replace(arrival, sighting=named)


async def rulings_on(db: Database, arrivals: Sequence[Arrival]) -> Rulings:
    """Look up what holds for arriving sightings; those that a merge renames are noted as its own. Part of the caller's transaction."""
    ids = [uuid.UUID(one.sighting.sighting_id) for one in arrivals]
    subjects = {subject_id for one in arrivals if (subject_id := _subject_of(one.sighting))}
    rulings = Rulings()
    for row in await db.fetch(_RULINGS, ids, list(subjects)):
        key, subject_id = row["key"], row["subject_id"]
        match row["kind"]:
            case "given" | "merged" as kind:
                names = rulings.given if kind == "given" else rulings.merged
                names[key] = _Name(subject_id, row["name"], row["reference_id"], row["merge_id"])
            case "rejected":
                rulings.rejected.add((key, subject_id))
            case "dropped":
                rulings.dropped.add(key)
            case "opted_out":
                rulings.opted_out.add(subject_id)
            case "forgotten":
                rulings.forgotten.add(subject_id)
    if parts := rulings.parts(arrivals):
        await db.executemany(_PART, parts)
    return rulings


def _subject_of(sighting: Sighting) -> uuid.UUID | None:
    return uuid.UUID(sighting.subject_id) if sighting.subject_id else None


def _nameless(sighting: Sighting, reason: str) -> Sighting:
    return msgspec.structs.replace(
        sighting, outcome="stranger", reason=reason, subject_id=None, subject=None, reference_id=None, weak_for=()
    )
