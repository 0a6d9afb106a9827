"""Sightings that were decided while a shard of the gallery was away, until every shard has answered. Pure; no clock."""

from dataclasses import dataclass

import msgspec

from core.ports import MatchAnswer
from core.schema import Sighting
from core.types import F32, Quality
from recognize.decide import Evidence, revise
from recognize.outcome import TrackStory, decided_fields, next_revision
from recognize.threshold import ThresholdPolicy

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


def answered(item: Incomplete, answer: MatchAnswer, row: int, policy: ThresholdPolicy) -> Sighting | None:
    """Decide a sighting again with a further answer.

    Args:
        item: its story and last message take over what is new.
        answer: of the gallery, with this sighting's candidates in ``row``.
        row: of the answer.
        policy: thresholds.

    Returns:
        The further message; None when there is nothing new to tell, which a complete answer always has.
    """
    story = item.story
    evidence = Evidence(
        candidates=answer.candidates[row],
        threshold=policy.track(answer.references, item.agreement),
        quality=item.quality,
        height_px=item.height_px,
        min_height_px=policy.settings.min_face_px,
        shards_missing=answer.shards_missing,
    )
    decision = revise(story.decision, evidence)
    named = decision.outcome == "subject" and story.decision.outcome != "subject"
    if answer.shards_missing and not named:
        return None
    told = item.told
    story.decision, story.shards_missing = decision, answer.shards_missing
    story.revision = next_revision(
        story.revision, lasted_s=told.last_s - told.first_s, closed=told.closed, complete=not answer.shards_missing,
        replayed_s=story.replayed_s,
    )  # fmt: skip
    story.told = story.state
    item.told = msgspec.structs.replace(told, revision=story.revision, shards_missing=answer.shards_missing, **decided_fields(decision))
    return item.told
