"""Which sightings make one episode. Pure: a function of the set of sightings, whatever the order in which they arrived."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

EPISODE_NAMESPACE = uuid.UUID("a3b0c9d4-6f0e-5c57-8f0a-2f3d1b7e9c02")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The part of a sighting that episodes are made of; only sightings of a subject have one."""

    sighting_id: uuid.UUID
    camera: str
    subject_id: uuid.UUID
    first_at: datetime
    """Aware; microseconds count, so that gaps are compared exactly."""
    last_at: datetime
    quality: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """Sightings of one subject at one camera without a gap longer than the limit."""

    episode_id: uuid.UUID
    camera: str
    subject_id: uuid.UUID
    first_at: datetime
    last_at: datetime
    sighting_ids: tuple[uuid.UUID, ...]
    """By time of appearance; the first one names the episode."""
    best_sighting_id: uuid.UUID
    """The sighting of the best quality."""


def episodes_of(spans: Iterable[Span], gap: timedelta) -> tuple[Episode, ...]:
    """Group sightings into episodes.

    Args:
        spans: sightings of any subjects at any cameras, in any order; the same sighting twice counts once.
        gap: the longest time between two sightings of one episode.

    Returns:
        The episodes by camera, subject and time. Any two of one camera and subject lie more than ``gap`` apart, therefore adding or
        removing a sighting changes only the episodes within ``gap`` of it: the store regroups those and no others.
    """
    ordered = sorted(set(spans), key=lambda span: (span.camera, span.subject_id, span.first_at, span.sighting_id))
    groups: list[list[Span]] = []
    ends: list[datetime] = []
    for span in ordered:
        if groups and _same_stream(groups[-1][0], span) and span.first_at - ends[-1] <= gap:
            groups[-1].append(span)
            ends[-1] = max(ends[-1], span.last_at)
        else:
            groups.append([span])
            ends.append(span.last_at)
    return tuple(_episode(group) for group in groups)


def episode_id_of(camera: str, subject_id: uuid.UUID, earliest_sighting_id: uuid.UUID) -> uuid.UUID:
    """Return the id of the episode that starts with a sighting: a redelivery makes the same episode."""
    return uuid.uuid5(EPISODE_NAMESPACE, f"{camera}\n{subject_id}\n{earliest_sighting_id}")


def _same_stream(one: Span, other: Span) -> bool:
    return one.camera == other.camera and one.subject_id == other.subject_id


def _episode(group: Sequence[Span]) -> Episode:
    first = group[0]
    best = max(group, key=lambda span: (span.quality, span.sighting_id))
    return Episode(
        episode_id=episode_id_of(first.camera, first.subject_id, first.sighting_id),
        camera=first.camera,
        subject_id=first.subject_id,
        first_at=first.first_at,
        last_at=max(span.last_at for span in group),
        sighting_ids=tuple(span.sighting_id for span in group),
        best_sighting_id=best.sighting_id,
    )
