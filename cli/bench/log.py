"""``sightline bench log``: records the size of frames through Kafka; latency at a steady rate, throughput and CPU flat out."""

import asyncio
import statistics
import struct
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.bench.report import Figures, emit_report
from cli.fleet_log import require_kafka
from cli.output import JSON_OPTION, console, run_async
from core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.adapters.kafka_log import KafkaLog

PARTITIONS = 12
CONCURRENT = 64  # publications on their way at a time, flat out
BATCH = 64
WARM_UP = 50  # records before the clock counts: connections, metadata, the group's first assignment
STAMP = struct.Struct("<d")
PATIENCE_S = 60.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("log")(run)


def run(
    ctx: typer.Context,
    size: Annotated[int, typer.Option(min=16, max=8 << 20, help="Bytes of a record; a 1080p frame has about 60,000 per JPEG.")] = 60_000,
    rate: Annotated[float, typer.Option(min=1, help="Records a second while latency is measured.")] = 60.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long latency is measured.")] = 20.0,
    records: Annotated[int, typer.Option(min=200, help="Records of the flat-out runs.")] = 5000,
    as_json: bool = JSON_OPTION,
) -> None:
    """Publish and consume on the Kafka of the settings, in a topic of its own that is deleted afterwards."""
    settings: Settings = ctx.obj.settings()
    require_kafka(settings)
    topic = f"bench.{uuid.uuid4().hex[:8]}"
    from core.adapters.kafka_plan import TopicSpec
    from core.adapters.kafka_topics import TopicAdmin

    admin = TopicAdmin(settings.log_url, settings.kafka)
    admin.ensure([TopicSpec(name=topic, partitions=PARTITIONS, replication=settings.kafka.replication, config=())])
    try:
        with console().status("publishing and consuming"):
            figures = run_async(_measure(settings, topic, size, (rate, seconds), records))
    finally:
        admin.delete([topic])
    chosen = {"size": size, "rate": rate, "seconds": seconds, "records": records, "partitions": PARTITIONS}
    emit_report("log", settings={**chosen, "replication": settings.kafka.replication}, figures=figures, as_json=as_json)


async def _measure(settings: Settings, topic: str, size: int, pace: tuple[float, float], records: int) -> Figures:
    from core.adapters.kafka_log import open_kafka_log

    async with open_kafka_log(settings.log_url, settings.kafka) as log:
        acknowledged, arrived = await _paced(log, topic, size, pace)
        figures: Figures = {
            "publish_p50": (statistics.median(acknowledged) * 1000, "ms"),
            "publish_p95": (_quantile(acknowledged, 0.95) * 1000, "ms"),
            "publish_p99": (_quantile(acknowledged, 0.99) * 1000, "ms"),
            "end_to_end_p50": (statistics.median(arrived) * 1000, "ms"),
            "end_to_end_p95": (_quantile(arrived, 0.95) * 1000, "ms"),
        }
        with _meter(figures, "publish", records):
            await _flood(log, topic, size, records)
        async with log.consumer([topic], f"{topic}.drain") as consumer:
            await _take(consumer, WARM_UP)
            wanted = records + len(acknowledged) - WARM_UP
            with _meter(figures, "consume", wanted):
                await _take(consumer, wanted)
    return figures


async def _paced(log: "KafkaLog", topic: str, size: int, pace: tuple[float, float]) -> tuple[list[float], list[float]]:
    """Return seconds from publishing to acknowledgement and to the consumer, of each record at a steady rate."""
    rate, seconds = pace
    acknowledged: list[float] = []
    arrived: list[float] = []
    total = WARM_UP + int(rate * seconds)
    filler = bytes(size - STAMP.size)

    async def publish(number: int) -> None:
        began_s = time.monotonic()
        await log.publish(topic, f"camera-{number % 64}", STAMP.pack(began_s) + filler)
        acknowledged.append(time.monotonic() - began_s)

    async with asyncio.timeout(seconds + PATIENCE_S), log.consumer([topic], f"{topic}.live") as consumer, asyncio.TaskGroup() as tasks:

        async def consume() -> None:
            while len(arrived) < total:
                got = await consumer.poll(BATCH, 1.0)
                now_s = time.monotonic()
                arrived.extend(now_s - STAMP.unpack_from(record.value)[0] for record in got)
                await consumer.commit(got)

        tasks.create_task(consume())
        start_s = time.monotonic()
        for number in range(total):
            tasks.create_task(publish(number))
            await asyncio.sleep(max(0.0, start_s + (number + 1) / rate - time.monotonic()))
    return acknowledged[WARM_UP:], arrived[WARM_UP:]


async def _flood(log: "KafkaLog", topic: str, size: int, records: int) -> None:
    numbers = iter(range(records))
    value = bytes(size)

    async def publish() -> None:
        for number in numbers:
            await log.publish(topic, f"camera-{number % 64}", value)

    await asyncio.gather(*(publish() for _ in range(CONCURRENT)))


async def _take(consumer: Any, records: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while records > 0:
            got = await consumer.poll(min(BATCH, records), 1.0)
            await consumer.commit(got)
            records -= len(got)


@contextmanager
def _meter(figures: Figures, name: str, records: int) -> "Iterator[None]":
    """Add a rate and the CPU of this process for each record, threads of librdkafka included."""
    began_s, cpu_s = time.monotonic(), time.process_time()
    yield
    figures[f"{name}_per_second"] = (records / (time.monotonic() - began_s), "1/s")
    figures[f"{name}_cpu"] = ((time.process_time() - cpu_s) / records * 1e6, "us")


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]
