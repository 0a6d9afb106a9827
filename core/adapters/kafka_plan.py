"""Which topics a fleet needs, and how large. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from core.adapters.kafka_config import MAX_DEAD_LETTER_BYTES, MAX_RECORD_BYTES
from core.topology import DEAD_PREFIX, SIGHTINGS_TOPIC, frames_topic

CAMERAS_PER_PARTITION = 8  # a worker on two CPU cores keeps up with about so many; a GPU worker takes many partitions
SIGHTING_CAMERAS_PER_PARTITION = 64  # a sighting is hundreds of times less work than the frames it comes from
PARTITION_STEP = 12  # shares evenly among 2, 3, 4, 6 and 12 workers
MAX_PARTITIONS = 768  # of a topic; a region that needs more is better cut in two
DEAD_PARTITIONS = 3
HOUR_MS = 3_600_000
SIZE_KEY = "max.message.bytes"
SEGMENT_BYTES = 256 << 20
SEGMENTS_PER_RETENTION = 8  # Kafka forgets whole segments: this many to a retention keep the disk within an eighth of the promise


FRAMES_HOURS = 4.0  # longer than any outage of the recognizers that is to cost no frame, and as far back as a replay goes
SIGHTINGS_HOURS = 7 * 24.0
DEAD_HOURS = 14 * 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long Kafka keeps what, in hours. None = the default above; a topic that is there then keeps what it has."""

    frames: float | None = None
    sightings: float | None = None
    dead: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as the fleet wants it."""

    name: str
    partitions: int
    replication: int
    config: tuple[tuple[str, str], ...]
    enforced: frozenset[str] = frozenset()
    """Keys of config that are set even when the topic is there; sizes are only raised."""


def partitions_for(cameras: int, *, per_partition: int = CAMERAS_PER_PARTITION) -> int:
    """Return how many partitions so many cameras get: enough for a worker each, in steps of PARTITION_STEP, at most MAX_PARTITIONS."""
    steps = max(1, math.ceil(cameras / per_partition / PARTITION_STEP))
    return min(steps * PARTITION_STEP, MAX_PARTITIONS)


def fleet_topics(
    cameras: Mapping[str, int], *, replication: int, retention: Retention, frame_partitions: int | None = None
) -> list[TopicSpec]:
    """Return every topic of a fleet.

    Args:
        cameras: how many cameras each region has.
        replication: copies of each partition.
        retention: how long Kafka keeps what.
        frame_partitions: of each frames topic, instead of the rule.
    """

    def spec(name: str, partitions: int, hours: tuple[float | None, float], most_bytes: int) -> TopicSpec:
        asked, default = hours
        keep_ms = (default if asked is None else asked) * HOUR_MS
        config = {
            "retention.ms": str(int(keep_ms)),
            "segment.ms": str(int(keep_ms / SEGMENTS_PER_RETENTION)),
            "segment.bytes": str(SEGMENT_BYTES),
            "max.message.bytes": str(most_bytes + (64 << 10)),  # the batch around a record
            "min.insync.replicas": str(max(1, replication - 1)),
            "cleanup.policy": "delete",
        }
        enforced = {SIZE_KEY} | ({"retention.ms", "segment.ms"} if asked is not None else set())
        return TopicSpec(
            name=name, partitions=partitions, replication=replication, config=tuple(config.items()), enforced=frozenset(enforced)
        )

    sighting_partitions = partitions_for(sum(cameras.values()), per_partition=SIGHTING_CAMERAS_PER_PARTITION)
    live = [
        spec(frames_topic(region), frame_partitions or partitions_for(count), (retention.frames, FRAMES_HOURS), MAX_RECORD_BYTES)
        for region, count in sorted(cameras.items())
    ]
    live.append(spec(SIGHTINGS_TOPIC, sighting_partitions, (retention.sightings, SIGHTINGS_HOURS), MAX_RECORD_BYTES))
    hours = (retention.dead, DEAD_HOURS)
    return live + [spec(DEAD_PREFIX + topic.name, DEAD_PARTITIONS, hours, MAX_DEAD_LETTER_BYTES) for topic in live]
