"""Telling Kafka what is finished: in the background while all is well, at once when partitions go away."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from core.adapters.kafka_ledger import Ledger
from core.adapters.kafka_report import Reporter
from core.metrics import Metrics
from core.ports import Partition

COMMIT_S = 0.15  # between commits: what a crash makes come again, beside what was in flight
LOST_S = 5.0  # a commit that nobody answered is sent again
SETTLE_S = 2.0  # a rebalance in progress is over soon after the slowest heartbeat
SETTLE_POLL_S = 0.1
REBALANCING = frozenset({KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION})
"""What a commit that crosses a rebalance is told; it is sent again."""


class Commits:
    """Commits of one consumer. Thread rule: the consumer's thread; the ledger is read under its lock."""

    def __init__(self, ledger: Ledger, lock: threading.Condition, reporter: Reporter, *, metrics: Metrics, group: str) -> None:
        self._ledger, self._lock, self._reporter, self._metrics, self._group = ledger, lock, reporter, metrics, group
        self._waiting_since_s: float | None = None
        """When the commit on its way was sent."""
        self._sent_s = 0.0

    def due(self, consumer: Any) -> None:
        """Send what is finished, when it is time; one commit is on its way at a time."""
        now_s = time.monotonic()
        waiting = self._waiting_since_s is not None and now_s - self._waiting_since_s < LOST_S
        if waiting or now_s - self._sent_s < COMMIT_S:
            return
        with self._lock:
            offsets = self._ledger.to_commit()
        if offsets:
            self._sent_s = self._waiting_since_s = now_s
            try:
                consumer.commit(offsets=positions(offsets), asynchronous=True)
            except KafkaException as err:  # e.g. a rebalance just now: the next round tries again
                self._failed(err.args[0])

    def on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """Take librdkafka's answer to ``due``; what was refused is sent again."""
        self._waiting_since_s = None
        failed = error or next((one.error for one in partitions if one.error), None)
        if failed is not None:
            self._failed(failed)
        else:
            self._done({(one.topic, one.partition): one.offset for one in partitions})

    def now(self, consumer: Any, offsets: dict[Partition, int]) -> None:
        """Commit and wait for the answer; in the midst of a rebalance the group is asked again until it has settled."""
        give_up_s = time.monotonic() + SETTLE_S
        error: KafkaError | None = None
        while offsets:
            try:
                answer = consumer.commit(offsets=positions(offsets), asynchronous=False)
                error = next((one.error for one in answer if one.error), None)
            except KafkaException as err:
                error = err.args[0]
            if error is None or error.code() != KafkaError.REBALANCE_IN_PROGRESS or time.monotonic() > give_up_s:
                break
            time.sleep(SETTLE_POLL_S)
        if error is not None:
            self._failed(error)
        elif offsets:
            self._done(offsets)

    def _done(self, offsets: dict[Partition, int]) -> None:
        self._reporter.answered()
        self._metrics.log_commits.labels(self._group, "done").inc()
        with self._lock:
            for partition, offset in offsets.items():
                self._ledger.acknowledged(partition, offset)

    def _failed(self, error: KafkaError) -> None:
        self._waiting_since_s = None
        self._metrics.log_commits.labels(self._group, "failed").inc()
        if error.code() not in REBALANCING:
            self._reporter.say(f"kafka commit {error.name()}", reason=error.str(), group=self._group)


def positions(offsets: dict[Partition, int]) -> list[TopicPartition]:
    """Return librdkafka's words for partitions with offsets."""
    return [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
