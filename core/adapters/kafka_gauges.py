"""What a consumer's state looks like on a dashboard."""

import threading
import time
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from core.adapters.kafka_ledger import Ledger
from core.metrics import Metrics

EVERY_S = 2.0  # dashboards are scraped less often
ASK_S = 1.0


class Gauges:
    """The gauges of one consumer. Thread rule: the consumer's thread."""

    def __init__(self, metrics: Metrics, group: str) -> None:
        self._metrics, self._group = metrics, group
        self._set_s = 0.0
        self._topics: set[str] = set()
        """Topics whose lag was ever set: it must go to 0 when they go."""

    def observe(self, consumer: Any, ledger: Ledger, lock: threading.Condition, paused: int) -> None:
        """Set the gauges, when it is time.

        The ends of partitions are those that came with the last fetch, so that no request is made for them; only a partition that was
        not read from yet, for the buffer was full before its turn came, is asked for.
        """
        now_s = time.monotonic()
        if now_s - self._set_s < EVERY_S:
            return
        self._set_s = now_s
        with lock:
            positions = {partition: ledger.position(partition) for partition in ledger.partitions}
            buffered, in_flight = ledger.buffered, ledger.in_flight()
        lag = dict.fromkeys(self._topics, 0)
        for (topic, number), position in positions.items():
            lag[topic] = lag.get(topic, 0) + _lag(consumer, TopicPartition(topic, number), position)
        self._topics |= lag.keys()
        self._set(lag, buffered=buffered, in_flight=in_flight, partitions=len(positions), paused=paused)

    def clear(self) -> None:
        """Say that nothing is read any more."""
        self._set(dict.fromkeys(self._topics, 0), buffered=0, in_flight=0, partitions=0, paused=0)

    def _set(self, lag: dict[str, int], *, buffered: int, in_flight: int, partitions: int, paused: int) -> None:
        for topic, records in lag.items():
            self._metrics.log_lag.labels(topic, self._group).set(records)
        self._metrics.log_buffered.labels(self._group).set(buffered)
        self._metrics.log_in_flight.labels(self._group).set(in_flight)
        self._metrics.log_partitions.labels(self._group).set(partitions)
        self._metrics.log_paused.labels(self._group).set(paused)


def _lag(consumer: Any, partition: TopicPartition, position: int | None) -> int:
    """Return how many records of a partition are not finished; 0 when the brokers do not say."""
    low, end = (int(offset) for offset in consumer.get_watermark_offsets(partition, cached=True))
    try:
        if end < 0:
            low, end = (int(offset) for offset in consumer.get_watermark_offsets(partition, timeout=ASK_S))
        if position is None:
            committed = int(consumer.committed([partition], timeout=ASK_S)[0].offset)
            position = committed if committed >= 0 else low
    except KafkaException:
        return 0
    return max(0, end - position)
