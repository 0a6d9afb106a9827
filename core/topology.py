"""What topics, exchanges, queues and consumer groups are called, and who is in which region. The only place that spells them."""

from dataclasses import dataclass

FRAMES_PREFIX = "frames."
"""Topic of gated frames: ``frames.<region>``, key = camera."""
SIGHTINGS_TOPIC = "sightings"
"""Key = camera."""
DEAD_PREFIX = "dead."
"""Topic of what could not be processed: ``dead.<topic>``."""
REPLAY_HEADER = "replay"
"""Record header of what ``sightline replay`` published again; its value names the run."""
REASON_HEADER = "dead-reason"
"""Record header of a dead letter, for people with generic tools; the DeadLetter before the payload says it all."""
RECOGNIZE_GROUP = "recognize"
SIGHTINGS_GROUP = "sightings"

PROBES_EXCHANGE = "probes"
"""Fan-out: each batch of probes reaches the queue of every shard."""
LIVE_EXCHANGE = "live"
"""Topic exchange, routing key = region: which cameras hold a live track (core.schema.LiveHolds). Transient: the next one comes soon."""
QUEUE_EXPIRES_S = 60.0
"""A shard's queue without a matcher goes after this long."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ShardId:
    """One slice of the gallery in one layout: while S changes, the shards of both layouts run side by side."""

    shards_total: int
    shard: int

    def __post_init__(self) -> None:
        if not 0 <= self.shard < self.shards_total:
            raise ValueError(f"ShardId: shard {self.shard} of {self.shards_total}")

    @property
    def label(self) -> str:
        """How metrics and people call it: ``0/2`` is shard 0 of 2."""
        return f"{self.shard}/{self.shards_total}"

    @property
    def queue(self) -> str:
        """The queue its replicas share."""
        return f"match.shard.{self.shard}.of.{self.shards_total}"


def frames_topic(region: str) -> str:
    """Return the topic of a region's gated frames."""
    return FRAMES_PREFIX + region


def region_of(topic: str) -> str:
    """Return the region of a frames topic."""
    return topic.removeprefix(FRAMES_PREFIX)
