"""``sightline bench broker``: what a message over RabbitMQ costs this process, and how many a second go through."""

import asyncio
import time
import uuid
from typing import Annotated

import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console, run_async
from cli.process import require_fleet
from core.ports import Broker, QueueSpec

SIZES_BYTES = {"4k": 4096, "128k": 131_072}
"""Two faces of 512 floats; a full batch of 64 probes."""
PUBLISHERS = 64
PREFETCH = 256
CHUNK_BYTES = 16 << 20  # published, then consumed, in turn: each is timed alone, and the server's memory stays out of it
ROUND_TRIPS = 200


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("broker")(run)


def run(
    ctx: typer.Context,
    messages: Annotated[int, typer.Option(min=256, max=1_000_000, help="Messages of 4 kB; a quarter as many of 128 kB.")] = 10_000,
    as_json: bool = JSON_OPTION,
) -> None:
    """Publish with confirms and consume with acknowledgements, on the RabbitMQ of the settings."""
    settings = ctx.obj.settings()
    require_fleet(settings, log=False)
    from core.adapters.amqp import open_amqp

    async def measured() -> Figures:
        async with open_amqp(settings.broker_url, settings.broker, name="sightline bench") as broker:
            return await measure(broker, messages=messages)

    with console().status("sending messages"):
        figures = run_async(measured())
    emit_report("broker", settings={"messages": messages, "publishers": PUBLISHERS, "prefetch": PREFETCH}, figures=figures, as_json=as_json)


async def measure(broker: Broker, *, messages: int) -> Figures:
    """Return messages per second and CPU microseconds of this process per message, and the time of a round trip."""
    figures: Figures = {}
    for label, size in SIZES_BYTES.items():
        count = messages if label == "4k" else messages // 4
        figures |= await _throughput(broker, body=bytes(size), messages=count, label=label)
        figures[f"round_trip_{label}"] = (await _round_trip_ms(broker, bytes(size)), "ms")
    return figures


async def _throughput(broker: Broker, *, body: bytes, messages: int, label: str) -> Figures:
    """Publish and consume in turn, in chunks, timing each."""
    queue = QueueSpec(name=f"bench.{uuid.uuid4().hex}", prefetch=PREFETCH, expires_s=60.0)
    async with broker.subscribe(queue):
        pass
    chunk = CHUNK_BYTES // len(body)
    published_s, published_cpu_s, consumed_s, consumed_cpu_s = 0.0, 0.0, 0.0, 0.0
    chunks = max(1, messages // chunk)
    for _ in range(chunks):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        await _publish(broker, queue.name, body, chunk)
        between_s, between_cpu_s = time.perf_counter(), time.process_time()
        async with broker.subscribe(queue) as subscription:
            for _ in range(chunk):
                subscription.ack(await subscription.get())
        published_s += between_s - began_s
        published_cpu_s += between_cpu_s - began_cpu_s
        consumed_s += time.perf_counter() - between_s
        consumed_cpu_s += time.process_time() - between_cpu_s
    total = chunks * chunk
    return {
        f"publish_{label}": (total / published_s, "1/s"),
        f"publish_cpu_{label}": (1e6 * published_cpu_s / total, "us"),
        f"consume_{label}": (total / consumed_s, "1/s"),
        f"consume_cpu_{label}": (1e6 * consumed_cpu_s / total, "us"),
        f"cpu_{label}": (1e6 * (published_cpu_s + consumed_cpu_s) / total, "us"),
    }


async def _publish(broker: Broker, queue: str, body: bytes, count: int) -> None:
    async def some(share: int) -> None:
        for _ in range(share):
            await broker.publish("", queue, body)

    async with asyncio.TaskGroup() as group:
        for number in range(PUBLISHERS):
            group.create_task(some(len(range(number, count, PUBLISHERS))))


async def _round_trip_ms(broker: Broker, body: bytes) -> float:
    """Return the median time from publishing to holding the message, one at a time."""
    times_s = []
    async with broker.subscribe(QueueSpec(name="")) as queue:
        for _ in range(ROUND_TRIPS):
            began_s = time.perf_counter()
            await broker.publish("", queue.name, body, confirm=False)
            queue.ack(await queue.get())
            times_s.append(time.perf_counter() - began_s)
    return 1000 * sorted(times_s)[ROUND_TRIPS // 2]
