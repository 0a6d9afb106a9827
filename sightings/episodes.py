"""Which sightings make one episode. Pure: the result depends on the set of sightings alone, not on the order in which they arrived.

An episode is kept as a summary that can be merged without its sightings, so that one more sighting of somebody who sits before a camera
all day costs as much as the first.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

EPISODE_NAMESPACE = uuid.UUID("a3b0c9d4-6f0e-5c57-8f0a-2f3d1b7e9c02")


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """Sightings of one subject at one camera without a gap longer than the limit; or one sighting, before it is merged."""

    camera: str
    subject_id: uuid.UUID
    first_at: datetime
    """Aware; microseconds count, so that gaps are compared exactly."""
    first_sighting_id: uuid.UUID
    """The earliest sighting (of several at once, the one of the smallest id): it names the episode."""
    last_at: datetime
    sightings: int
    """0 for a sighting that is counted in another summary already and only extends it."""
    best_quality: float
    best_sighting_id: uuid.UUID

    @property
    def episode_id(self) -> uuid.UUID:
        """Derived: a redelivery makes the same episode."""
        return uuid.uuid5(EPISODE_NAMESPACE, f"{self.camera}\n{self.subject_id}\n{self.first_sighting_id}")


@dataclass(frozen=True, slots=True)
class Merged:
    """An episode and what it was made of."""

    episode: Episode
    parts: tuple[Episode, ...]


def merge(parts: Iterable[Episode], gap: timedelta) -> tuple[Merged, ...]:
    """Merge episodes and single sightings into episodes.

    Args:
        parts: of any subjects at any cameras, in any order; no sighting is counted in two of them.
        gap: the longest time between two sightings of one episode.

    Returns:
        The episodes by camera, subject and time. Any two of one camera and subject lie more than ``gap`` apart, therefore a sighting that
        is added, or removed, concerns only the episodes within ``gap`` of it: the store merges those and reads no others.
    """
    ordered = sorted(parts, key=lambda part: (part.camera, part.subject_id, part.first_at, part.first_sighting_id))
    groups: list[list[Episode]] = []
    ends: list[datetime] = []
    for part in ordered:
        if groups and _same_stream(groups[-1][0], part) and part.first_at - ends[-1] <= gap:
            groups[-1].append(part)
            ends[-1] = max(ends[-1], part.last_at)
        else:
            groups.append([part])
            ends.append(part.last_at)
    return tuple(Merged(_sum(group), tuple(group)) for group in groups)


def extends(before: Episode, after: Episode, inside: Episode) -> bool:
    """Tell whether a sighting's new revision only adds to the episode that holds it.

    Otherwise the episode must be made anew from its sightings: it may end earlier, show another best shot, or fall apart.

    Args:
        before: the sighting as the episode knows it.
        after: the sighting as it is now.
        inside: the episode.
    """
    shows = inside.best_sighting_id == before.best_sighting_id
    return (
        _same_stream(before, after)
        and after.first_at <= before.first_at
        and after.last_at >= before.last_at
        and (after.best_quality >= before.best_quality or not shows)
    )


def _same_stream(one: Episode, other: Episode) -> bool:
    return one.camera == other.camera and one.subject_id == other.subject_id


def _sum(group: Sequence[Episode]) -> Episode:
    first = min(group, key=lambda part: (part.first_at, part.first_sighting_id))
    best = max(group, key=lambda part: (part.best_quality, part.best_sighting_id))
    return Episode(
        camera=first.camera,
        subject_id=first.subject_id,
        first_at=first.first_at,
        first_sighting_id=first.first_sighting_id,
        last_at=max(part.last_at for part in group),
        sightings=sum(part.sightings for part in group),
        best_quality=best.best_quality,
        best_sighting_id=best.best_sighting_id,
    )
