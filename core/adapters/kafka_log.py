"""The log of a fleet: Kafka, through librdkafka. Counterpart of core.adapters.memory_log; see docs/kafka.md."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from core.adapters.kafka_config import client_config
from core.adapters.kafka_consumer import KafkaConsumer, Membership
from core.adapters.kafka_publisher import Headers, KafkaPublisher, absent
from core.adapters.kafka_report import Reporter
from core.errors import MessageError, UnavailableError
from core.metrics import Metrics
from core.ports import OnRevoked, Record
from core.schema import DeadLetter, encode
from core.settings import KafkaSettings
from core.topology import DEAD_PREFIX, REASON_HEADER

MAX_REASON_CHARS = 2000
DEAD_RETRY_S = 0.5
CHECK_S = 2.0


class KafkaLog:
    """Implements core.ports.Log. Thread rule: one event loop."""

    def __init__(self, config: dict[str, Any], metrics: Metrics) -> None:
        """Take client settings; made by ``open_kafka_log``."""
        self._config = config
        self._metrics = metrics
        self._reporter = Reporter("producer", config["bootstrap.servers"], metrics)
        self._publisher = KafkaPublisher(config, self._reporter, metrics)

    async def publish(self, topic: str, key: str, value: bytes, *, headers: Headers = ()) -> None:
        """Publish and return once all in-sync replicas have the record; see KafkaPublisher.publish for what it raises."""
        await self._publisher.publish(topic, key, value, headers)

    def consumer(
        self, topics: Sequence[str], group: str, *, on_revoked: OnRevoked | None = None
    ) -> AbstractAsyncContextManager[KafkaConsumer]:
        """Join a group on some topics (``frames.*`` = every topic that begins so); leaving commits what is finished.

        Neither absent brokers nor absent topics are an error: both are told in the log of the process, and awaited.
        """
        return self._join(Membership(topics=tuple(topics), group=group, on_revoked=on_revoked))

    async def check(self, *topics: str) -> str:
        """Return "" when a broker answers and the topics are there, else in one line what is missing: for /health/ready."""
        try:
            missing = await asyncio.to_thread(self._publisher.missing, topics, CHECK_S)
        except UnavailableError as err:
            return str(err)
        return absent(", ".join(missing)) if missing else ""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["KafkaLog"]:
        """Run the publisher inside the block."""
        self._publisher.start()
        try:
            yield self
        finally:
            await self._publisher.close()

    @asynccontextmanager
    async def _join(self, member: Membership) -> AsyncIterator[KafkaConsumer]:
        reporter = Reporter(f"consumer {member.group}", self._config["bootstrap.servers"], self._metrics)
        consumer = KafkaConsumer(self._config, member, reporter, self._metrics, partial(self._put_aside, reporter))
        consumer.start()
        try:
            yield consumer
        finally:
            await consumer.close()

    async def _put_aside(self, reporter: Reporter, record: Record, reason: str) -> None:
        """Publish a dead letter, however long it takes: a record that is neither finished nor put aside would be lost."""
        letter = DeadLetter(topic=record.topic, partition=record.partition, offset=record.offset, key=record.key, reason=reason)
        topic, value = DEAD_PREFIX + record.topic, encode(letter, record.value)
        headers = (*record.headers, (REASON_HEADER, reason[:MAX_REASON_CHARS].encode()))
        while True:
            try:
                await self.publish(topic, record.key, value, headers=headers)
            except UnavailableError as err:
                reporter.say(f"dead letter of {record.topic} waits", reason=str(err))
                await asyncio.sleep(DEAD_RETRY_S)
            except MessageError as err:  # rather the reason alone than nothing
                value = encode(msgspec.structs.replace(letter, reason=f"{reason}; its {len(record.value)} bytes were not kept: {err}"))
            else:
                self._metrics.log_dead_letters.labels(record.topic).inc()
                return


@asynccontextmanager
async def open_kafka_log(url: str, settings: KafkaSettings, *, metrics: Metrics | None = None) -> AsyncIterator[KafkaLog]:
    """Open the log at ``kafka://host:port,...``. Brokers may be away: whoever can spool starts without them.

    Raises:
        SettingsError: all problems of URL, files and credentials in one line.
    """
    async with KafkaLog(client_config(url, settings), metrics or Metrics()).opened() as log:
        yield log
