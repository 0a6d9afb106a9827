"""Reading what Kafka keeps, without joining a group: for audits and replays. Blocking; each reader in a thread of its own."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from core.accounting import CameraAccount, FrameTally, Session, frame_number
from core.adapters.kafka_config import client_config
from core.adapters.kafka_report import Reporter
from core.adapters.kafka_topics import TopicAdmin
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Partition, Record
from core.settings import KafkaSettings
from core.topology import DEAD_PREFIX, RECOGNIZE_GROUP

BATCH = 500
POLL_S = 1.0
SILENT_S = 15.0  # nothing from the brokers for so long, though there is more: they are away
READERS = 4  # threads of an audit; librdkafka fetches and checks outside of Python's lock
WAIT_POLL_S = 0.5
PREFETCH_BYTES = 32 << 20
LOOK_BACK = 200  # records of a partition that are looked at first for what came before a window; then eight times as many, and so on
LOOK_BACK_FACTOR = 8

Ranges = Mapping[Partition, tuple[int, int]]
"""Partition -> first offset, end."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A record with the time at which its producer sent it."""

    record: Record
    sent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAudit:
    """The account of all cameras."""

    cameras: list[CameraAccount]
    expired: int
    """Records that Kafka forgot (retention) before the recognizers had finished them, whenever that was."""

    @property
    def balanced(self) -> bool:
        """Whether every frame is accounted for and none is lost."""
        return not self.expired and all(camera.balance == 0 and camera.lost == 0 for camera in self.cameras)


class KafkaReader:
    """Reads ranges of partitions. Thread rule: any thread; each ``read`` has a connection of its own."""

    def __init__(self, url: str, settings: KafkaSettings) -> None:
        """Raises SettingsError as kafka_config.client_config does."""
        self.admin = TopicAdmin(url, settings)
        self._config = client_config(url, settings)

    def since(self, topics: Sequence[str], since_s: float) -> dict[Partition, tuple[int, int]]:
        """Return the ranges of topics that were sent at or after a time, up to now."""
        ends = self.admin.ends(topics)
        begin = self.admin.offsets(list(ends), OffsetSpec.for_timestamp(int(since_s * 1000)))
        return {p: (begin[p] if begin[p] >= 0 else end, end) for p, (_, end) in ends.items()}

    def read(self, ranges: Ranges) -> Iterator[list[Kept]]:
        """Yield the records of some ranges in batches, each partition in order.

        Raises:
            UnavailableError: the brokers fell silent.
        """
        left = {partition: end for partition, (first, end) in ranges.items() if first < end}
        if not left:
            return
        reporter = Reporter("reader", self._config["bootstrap.servers"], Metrics())
        consumer = Consumer(_reader_config(self._config) | reporter.config())
        try:
            consumer.assign([TopicPartition(*partition, ranges[partition][0]) for partition in left])
            heard_s = time.monotonic()
            while left:
                first = consumer.poll(POLL_S)
                messages = [first, *consumer.consume(BATCH, 0)] if first is not None else []
                batch = [kept for message in messages if (kept := _kept(message, left, consumer))]
                if messages:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s > SILENT_S:
                    raise UnavailableError(reporter.trouble or f"Kafka fell silent; {len(left)} partitions were not read to their end")
                if batch:
                    yield batch
        except KafkaException as err:
            raise UnavailableError(f"Kafka can't be read: {err.args[0].str()}") from err
        finally:
            consumer.close()


def _reader_config(base: dict[str, Any]) -> dict[str, Any]:
    return base | {
        "group.id": "sightline-reader",  # librdkafka wants one; nothing joins it, nothing is committed
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "queued.max.messages.kbytes": PREFETCH_BYTES >> 10,
        "receive.message.max.bytes": 100_000_000,
    }


def _kept(message: Message, left: dict[Partition, int], consumer: Any) -> Kept | None:
    """Return a message of ours; forget partitions that are read to their end."""
    partition = (message.topic(), message.partition())
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        if not error.retriable():
            raise KafkaException(error)
        return None
    end = left.get(partition)
    if end is None:
        return None
    if error is not None or message.offset() >= end - 1:
        del left[partition]
        consumer.incremental_unassign([TopicPartition(*partition)])
    if error is not None or message.offset() >= end:
        return None
    key = message.key()
    record = Record(
        topic=partition[0],
        partition=partition[1],
        offset=message.offset(),
        key=key.decode("utf-8", "replace") if key else "",
        value=message.value() or b"",
        headers=tuple((name, value or b"") for name, value in message.headers() or ()),
    )
    return Kept(record, message.timestamp()[1] / 1000)


def audit_frames(
    reader: KafkaReader, topics: Sequence[str], since_s: float, on_progress: Callable[[int, int], None], *, wait_s: float = 0.0
) -> FrameAudit:
    """Account for every frame that was published from a time up to this call, by reading what Kafka keeps.

    Args:
        reader: of the cluster.
        topics: the frames topics.
        since_s: Unix seconds, by the time of publishing.
        on_progress: told records read and records in all, from any thread.
        wait_s: first wait at most so long until these frames are finished; what is published meanwhile is not counted.
    """
    ranges = reader.since(topics, since_s)
    committed = _finished(reader, ranges, wait_s)
    dead = reader.since([DEAD_PREFIX + topic for topic in topics], since_s)  # after the commits: a dead letter comes before its commit
    total = sum(end - first for first, end in (*ranges.values(), *dead.values()))
    progress = _Progress(total, on_progress)
    tally = FrameTally(committed)
    with ThreadPoolExecutor(READERS, thread_name_prefix="audit") as pool:
        for part in pool.map(lambda share: _count(reader, share, committed, progress), _shares(ranges)):
            tally.merge(part)
    for batch in reader.read(dead):
        progress.add(len(batch))
        for kept in batch:
            tally.add_dead(kept.record, ranges)
    before = _look_back(reader, ranges, tally.open_heads())
    kept_from = {partition: first for partition, (first, _) in reader.admin.ends(topics).items()}
    expired = sum(max(0, first - committed.get(partition, 0)) for partition, first in kept_from.items())
    return FrameAudit(cameras=tally.accounts(before), expired=expired)


def _finished(reader: KafkaReader, ranges: Ranges, wait_s: float) -> dict[Partition, int]:
    """Return the offsets up to which the recognizers have finished, once that is all of some ranges or the time is up."""
    give_up_s = time.monotonic() + wait_s
    while True:
        committed = reader.admin.committed(RECOGNIZE_GROUP, list(ranges))
        done = all(first == end or committed.get(partition, 0) >= end for partition, (first, end) in ranges.items())
        if done or time.monotonic() >= give_up_s:
            return committed
        time.sleep(WAIT_POLL_S)


class _Progress:
    """Counts over threads; a lost update costs a flicker of a bar."""

    def __init__(self, total: int, tell: Callable[[int, int], None]) -> None:
        self._done, self._total, self._tell = 0, total, tell

    def add(self, records: int) -> None:
        self._done += records
        self._tell(self._done, self._total)


def _shares(ranges: Ranges) -> list[Ranges]:
    """Cut ranges into READERS shares of about equal size, largest first into the smallest share."""
    shares: list[dict[Partition, tuple[int, int]]] = [{} for _ in range(READERS)]
    sizes = [0] * READERS
    for partition, (first, end) in sorted(ranges.items(), key=lambda item: item[1][0] - item[1][1]):
        smallest = sizes.index(min(sizes))
        shares[smallest][partition] = (first, end)
        sizes[smallest] += end - first
    return [share for share in shares if share]


def _count(reader: KafkaReader, share: Ranges, committed: Mapping[Partition, int], progress: _Progress) -> FrameTally:
    tally = FrameTally(committed)
    for batch in reader.read(share):
        progress.add(len(batch))
        for kept in batch:
            tally.add(kept.record)
    return tally


def _look_back(reader: KafkaReader, ranges: Ranges, heads: dict[Session, int]) -> dict[Session, int]:
    """Return the number of the last frame before the window, of sessions that began before it: -1 where there never was one.

    Reads backwards from the window, further and further, only until every session is found. Sessions whose beginning Kafka no longer
    keeps are left out.
    """
    found: dict[Session, int] = {}
    if not heads:
        return found
    kept_from = {partition: first for partition, (first, _) in reader.admin.ends(list({topic for topic, _ in ranges})).items()}
    tops = {partition: first for partition, (first, _) in ranges.items()}
    step = LOOK_BACK
    while heads.keys() - found.keys() and any(tops[p] > kept_from[p] for p in tops):
        window = {p: (max(kept_from[p], top - step), top) for p, top in tops.items()}
        for batch in reader.read(window):
            for kept in batch:
                number = frame_number(kept.record)
                if number is not None and number[1] < heads.get(number[0], 0):
                    found[number[0]] = max(number[1], found.get(number[0], -1))
        tops = {p: first for p, (first, _) in window.items()}
        step *= LOOK_BACK_FACTOR
    whole = not any(kept_from.values())
    return {**({session: -1 for session in heads} if whole else {}), **found}
