"""``sightline bench matcher``: what a matcher holds in how much memory, how it scales over shards, and what it answers over RabbitMQ."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console, run_async
from core.errors import UsageError
from core.settings import Settings

if TYPE_CHECKING:
    from cli.services.member import Member, Samples
    from core.ports import Broker
    from core.types import F32
    from matcher.remote import RemoteMatcher

BATCH = 64
IN_FLIGHT = 4  # batches on their way at a time: the matcher never waits for the next
WARM_UP_S = 3.0
ANSWER_TIMEOUT_S = 20.0
LISTEN_S = 2.0  # for probes of a fleet that uses the same broker
LOAD_TIMEOUT_S = 3600.0
LONE_PROBES = 200
SHARD = "0/1"
SEED = 1


class Part(StrEnum):
    """What can be measured alone."""

    memory = "memory"
    scaling = "scaling"
    broker = "broker"


class StorageName(StrEnum):
    """As in settings.matcher.storage."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("matcher")(run)


def run(
    ctx: typer.Context,
    references: Annotated[int, typer.Option(min=5000, max=50_000_000, help="References in the gallery.")] = 100_000,
    scaling_references: Annotated[
        int, typer.Option(min=5000, max=50_000_000, help="References divided among 1, 2 and 4 shards.")
    ] = 400_000,
    dimensions: Annotated[int, typer.Option(min=16, max=4096, help="Length of an embedding.")] = 512,
    seconds: Annotated[float, typer.Option(min=1.0, max=3600.0, help="Measured time over RabbitMQ.")] = 20.0,
    part: Annotated[list[Part] | None, typer.Option(help="Measure this only; may be given several times.")] = None,
    storage: Annotated[list[StorageName] | None, typer.Option(help="Storages to measure; may be given several times.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure memory by storage, CPU by number of shards, and one matcher process over RabbitMQ.

    Over RabbitMQ means: the process of ``sightline match``, loading from a PostgreSQL that is made for this, asked by this process. The
    broker is the one of the settings, which must not serve a fleet meanwhile, or one that is started here.
    """
    settings: Settings = ctx.obj.settings()
    parts, storages = part or list(Part), storage or list(StorageName)
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="sightline-matcher-") as name, console().status("") as status:
        folder = Path(name)
        if Part.memory in parts:
            from cli.bench.shards import in_fresh_process, storage_figures

            for kind in storages:
                status.update(f"{references:,} references as {kind}")
                figures |= in_fresh_process(storage_figures, kind.value, references, dimensions, SEED, folder)
        if Part.scaling in parts:
            from cli.bench.shards import in_fresh_process, scaling_figures

            status.update(f"{scaling_references:,} references on 1, 2 and 4 shards")
            figures |= in_fresh_process(scaling_figures, scaling_references, dimensions, SEED)
        if Part.broker in parts:
            status.update(f"{references:,} references, asked over RabbitMQ")
            figures |= run_async(broker_figures(settings, folder, references=references, dimensions=dimensions, seconds=seconds))
    said = {
        "references": references,
        "scaling_references": scaling_references,
        "dimensions": dimensions,
        "batch": BATCH,
        "batches_in_flight": IN_FLIGHT,
        "seconds": seconds,
        "storage_over_broker": settings.matcher.storage,
    }
    emit_report("matcher", settings=said, figures=figures, as_json=as_json)


async def broker_figures(settings: Settings, folder: Path, *, references: int, dimensions: int, seconds: float) -> Figures:
    """Start ``sightline match`` on a gallery of its own, and ask it.

    Raises:
        UnavailableError: a server or the matcher does not start. UsageError: a fleet uses the broker.
    """
    from cli.bench.gallery import store_gallery
    from cli.database import open_database_for
    from cli.services.member import Member
    from core.adapters.amqp import open_amqp
    from core.settings import load_settings
    from matcher.remote import open_remote_matcher

    data_dir = folder / "data"
    own = load_settings(data_dir=data_dir, database_url="embedded:")
    async with _broker_of(settings, folder) as variables, open_database_for(own) as db:
        url = variables["SIGHTLINE_BROKER_URL"]
        async with open_amqp(url, settings.broker, name="sightline bench matcher") as broker:
            await check_nobody_asks(broker)
            probes = await store_gallery(db, references, dimensions, seed=SEED)
            chosen = {"SIGHTLINE_MATCHER__STORAGE": settings.matcher.storage, "SIGHTLINE_METRICS__PORT": "0"}
            where = {"SIGHTLINE_DATA_DIR": str(data_dir), "SIGHTLINE_DATABASE_URL": "embedded:"}
            words = ["match", "--shard", "0", "--shards", "1", "--json"]
            member = Member("match", words, settings=variables | chosen | where, folder=folder)
            member.start()
            try:
                await asyncio.to_thread(member.await_ready, LOAD_TIMEOUT_S)
                async with open_remote_matcher(broker, timeout_s=ANSWER_TIMEOUT_S) as matcher:
                    return await _asked(member, matcher, probes, references=references, seconds=seconds)
            finally:
                await asyncio.to_thread(member.terminate)


async def check_nobody_asks(broker: "Broker", *, listen_s: float = LISTEN_S) -> None:
    """Check that no fleet sends probes over this broker: they would be answered from a generated gallery.

    Raises:
        UsageError: one does.
    """
    from core.ports import QueueSpec
    from core.topology import PROBES_EXCHANGE

    async with broker.subscribe(QueueSpec(name="", bindings=((PROBES_EXCHANGE, "fanout", ""),))) as others:
        try:
            async with asyncio.timeout(listen_s):
                await others.get()
        except TimeoutError:
            return
    raise UsageError("a fleet sends probes over this broker; set SIGHTLINE_BROKER_URL to another, or unset it to have one started here")


@asynccontextmanager
async def _broker_of(settings: Settings, folder: Path) -> AsyncIterator[dict[str, str]]:
    """Yield the variables that lead to the broker of the settings, else to a RabbitMQ of our own."""
    if settings.broker_url != "memory:":
        given = settings.broker.model_dump(exclude_none=True)
        secrets = {"password": settings.broker.password.get_secret_value()} if settings.broker.password else {}
        named = {f"SIGHTLINE_BROKER__{name.upper()}": str(value) for name, value in (given | secrets).items()}
        yield {"SIGHTLINE_BROKER_URL": settings.broker_url, **named}
        return
    from cli.services.local import LocalServers

    servers = LocalServers(folder / "services")
    await asyncio.to_thread(servers.start, "rabbitmq")
    try:
        yield {"SIGHTLINE_BROKER_URL": servers.url("rabbitmq")}
    finally:
        await asyncio.to_thread(servers.stop)


async def _asked(member: "Member", matcher: "RemoteMatcher", probes: "F32", *, references: int, seconds: float) -> Figures:
    """Keep the matcher busy for a while, then ask it single probes."""
    import numpy as np

    await _keep_busy(matcher, probes, WARM_UP_S)
    before, cpu_s, began_s = await asyncio.to_thread(member.scrape), member.cpu_s(), time.perf_counter()
    answered = await _keep_busy(matcher, probes, seconds)
    took_s, cpu_s = time.perf_counter() - began_s, member.cpu_s() - cpu_s
    after = await asyncio.to_thread(member.scrape)
    counted, search_s = (_grown(before, after, name) for name in ("sightline_matcher_probes_total", SEARCH_CPU))
    lone_ms = []
    for place in range(LONE_PROBES):
        started_s = time.perf_counter()
        await _ask(matcher, probes[place : place + 1])
        lone_ms.append(1e3 * (time.perf_counter() - started_s))
    load_s = after[f'sightline_matcher_load_seconds{{shard="{SHARD}"}}']
    return {
        "probes_per_second": (answered / took_s, "1/s"),
        "cpu_per_probe": (1e6 * cpu_s / counted, "us"),
        "search_cpu_per_probe": (1e6 * search_s / counted, "us"),
        "messaging_cpu_per_probe": (1e6 * (cpu_s - search_s) / counted, "us"),
        "messaging_share": ((cpu_s - search_s) / cpu_s, "ratio"),
        "matcher_cores": (cpu_s / took_s, "cores"),
        "round_trip_p50": (float(np.percentile(lone_ms, 50)), "ms"),
        "round_trip_p95": (float(np.percentile(lone_ms, 95)), "ms"),
        "load_time": (load_s, "s"),
        "load_rate": (references / load_s, "1/s"),
        "matcher_rss": (member.memory_bytes() / 2**20, "MiB"),
    }


SEARCH_CPU = "sightline_matcher_search_cpu_seconds_total"


def _grown(before: "Samples", after: "Samples", name: str) -> float:
    from cli.services.member import total

    return total(after, name, shard=SHARD) - total(before, name, shard=SHARD)


async def _keep_busy(matcher: "RemoteMatcher", probes: "F32", seconds: float) -> int:
    """Ask batch after batch, several at a time; return how many probes were answered."""
    ends_s = time.monotonic() + seconds
    answered = 0

    async def ask(first: int) -> None:
        nonlocal answered
        place = first
        while time.monotonic() < ends_s:
            await _ask(matcher, probes[place % (len(probes) - BATCH) :][:BATCH])
            answered += BATCH
            place += IN_FLIGHT * BATCH

    async with asyncio.TaskGroup() as tasks:
        for number in range(IN_FLIGHT):
            tasks.create_task(ask(number * BATCH))
    return answered


async def _ask(matcher: "RemoteMatcher", probes: "F32") -> None:
    from cli.bench.gallery import COLLECTION, MODEL
    from cli.bench.shards import K

    await matcher.search(probes, model=MODEL, collection=COLLECTION, k=K)
