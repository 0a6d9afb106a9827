"""Topics of a test's own on the shared Kafka, gone after it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from core.adapters.kafka_log import KafkaLog, open_kafka_log
from core.adapters.kafka_plan import TopicSpec
from core.adapters.kafka_topics import TopicAdmin
from core.ports import Consumer, Record
from core.settings import KafkaSettings


@dataclass(frozen=True)
class TestKafka:
    """A log, and names that nobody else uses."""

    __test__ = False

    url: str
    log: KafkaLog
    admin: TopicAdmin
    prefix: str

    def name(self, topic: str) -> str:
        return f"{topic}.{self.prefix}"

    async def make(self, *topics: str, partitions: int = 4) -> None:
        specs = [TopicSpec(name=topic, partitions=partitions, replication=1, config=()) for topic in topics]
        await asyncio.to_thread(self.admin.ensure, specs)


@asynccontextmanager
async def open_test_kafka(url: str) -> AsyncIterator[TestKafka]:
    """Yield a log on a real Kafka; topics whose name holds its prefix are deleted afterwards."""
    admin = TopicAdmin(url, KafkaSettings())
    prefix = f"t{uuid.uuid4().hex[:10]}"
    async with open_kafka_log(url, KafkaSettings()) as log:
        try:
            yield TestKafka(url, log, admin, prefix)
        finally:
            await asyncio.to_thread(lambda: admin.delete([topic for topic in admin.partitions() if prefix in topic]))


async def collect(consumer: Consumer, count: int, *, timeout_s: float = 20.0) -> list[Record]:
    """Poll until so many records came; fails when they do not."""
    records: list[Record] = []
    async with asyncio.timeout(timeout_s):
        while len(records) < count:
            records += await consumer.poll(count - len(records), 1.0)
    return records


def values(records: Sequence[Record]) -> list[bytes]:
    return [record.value for record in records]
