"""Sightings that were decided while a shard of the gallery was away, until every shard has answered. Pure; no clock."""

from dataclasses import dataclass

import msgspec

from core.ports import MatchAnswer
from core.schema import Sighting
from core.types import F32, Quality
from recognize.decide import revise
from recognize.judge import Face, Judge
from recognize.outcome import TrackStory, decided_fields, dropped, next_revision
from recognize.rules.rules import Scope

MAX_INCOMPLETE = 4096  # 20 to 40 KB each, mostly picture and path: 160 MB when a shard of a busy site is away for long


@dataclass(slots=True, kw_only=True)
class Incomplete:
    """A sighting to ask again about; of a live track or of one that has ended."""

    told: Sighting
    """The last message."""
    story: TrackStory
    """Shared with the track while it lives."""
    probe: F32
    """(D,) float32, the track's fused embedding when it was told."""
    agreement: float
    """Of its shots, see detect.tracks.Fused."""
    quality: Quality
    height_px: float


class IncompleteSightings:
    """A bounded collection of them, those that were longest not asked first. Thread rule: one event loop."""

    def __init__(self, capacity: int = MAX_INCOMPLETE) -> None:
        self._capacity = capacity
        self._items: dict[str, Incomplete] = {}

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Incomplete) -> int:
        """Remember a sighting, or what is newer of it, and return how many others were given up for it (0 or 1)."""
        key = item.told.sighting_id
        surplus = key not in self._items and len(self._items) >= self._capacity
        if surplus:
            del self._items[next(iter(self._items))]
        self._items[key] = item
        return int(surplus)

    def discard(self, sighting_id: str) -> None:
        """Forget a sighting: every shard has answered."""
        self._items.pop(sighting_id, None)

    def holds(self, item: Incomplete) -> bool:
        """Return whether an item is still the latest that is known of its sighting."""
        return self._items.get(item.told.sighting_id) is item

    def take_turns(self, count: int) -> list[Incomplete]:
        """Return up to ``count`` sightings; the next call begins behind them."""
        items = list(self._items.values())[:count]
        for item in items:
            self._items[item.told.sighting_id] = self._items.pop(item.told.sighting_id)
        return items


def answered(item: Incomplete, answer: MatchAnswer, row: int, judge: Judge) -> Sighting | None:
    """Decide a sighting again with a further answer.

    Args:
        item: its story and last message take over what is new.
        answer: of the gallery, with this sighting's candidates in ``row``.
        row: of the answer.
        judge: knows the rules.

    Returns:
        The further message; None when there is nothing new to tell, which a complete answer always has.
    """
    story = item.story
    told = item.told
    face = Face(vector=item.probe, quality=item.quality, height_px=item.height_px, agreement=item.agreement)
    decision = revise(story.decision, judge.evidence(answer, row, face, Scope(collection=told.collection, camera=told.camera)))
    named = decision.outcome in ("subject", "opted_out") and story.decision.outcome != decision.outcome
    if answer.shards_missing and not named:
        return None
    story.decision, story.shards_missing = decision, answer.shards_missing
    story.revision = next_revision(
        story.revision, lasted_s=told.last_s - told.first_s, closed=told.closed, complete=not answer.shards_missing,
        replayed_s=story.replayed_s,
    )  # fmt: skip
    story.told = story.state
    if decision.outcome == "opted_out":
        story.drop()
        item.told = dropped(told, revision=story.revision)
    else:
        item.told = msgspec.structs.replace(told, revision=story.revision, shards_missing=answer.shards_missing, **decided_fields(decision))
    return item.told
