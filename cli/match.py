"""``sightline match``: one replica of one shard of the gallery, in memory, answering probes from the broker."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import UsageError
from core.settings import Settings

if TYPE_CHECKING:
    from core.topology import ShardId

app = typer.Typer(help="Hold a shard of the gallery in memory and answer probes.")
TELL_S = 1.0  # between two lines of progress


@app.command()
def match(
    ctx: typer.Context,
    shard: Annotated[int, typer.Option(min=0, help="Which shard, counted from 0.")],
    shards: Annotated[int, typer.Option(min=1, max=1024, help="How many shards the gallery is divided into.")],
    replica: Annotated[str, typer.Option(help="Name of this replica, unique in its shard (default: host and process id).")] = "",
    as_json: bool = JSON_OPTION,
) -> None:
    """Hold a shard of the gallery in memory and answer probes.

    Takes probes once the shard is loaded; replicas of a shard share its queue. Ctrl-C (or SIGTERM) drains: what is held is answered,
    the rest goes to a replica. To change the number of shards, start all of the new layout, then stop the old ones.
    """
    settings: Settings = ctx.obj.settings()
    if shard >= shards:
        raise UsageError(f"--shard {shard}: with --shards {shards} they are counted 0 to {shards - 1}")
    run_async(_match(settings, shard=shard, shards=shards, replica=replica, as_json=as_json))


async def _match(settings: Settings, *, shard: int, shards: int, replica: str, as_json: bool) -> None:
    from cli.database import open_database_for
    from cli.process import Process, require_fleet, run_process
    from core.adapters.amqp import open_amqp
    from core.metrics import Metrics
    from core.runner import Service
    from core.topology import ShardId
    from matcher.local import open_local_shard
    from matcher.presence import Presence
    from matcher.service import MatcherService
    from matcher.shard import Shard

    require_fleet(settings, log=False)
    shard_id, metrics = ShardId(shards_total=shards, shard=shard), Metrics()
    new_shard = Shard(shard=shard, shards_total=shards, storage=settings.matcher.storage, directory=settings.data_dir)
    async with (
        open_database_for(settings) as db,
        open_amqp(settings.broker_url, settings.broker, name=f"sightline match {shard_id.label}", metrics=metrics) as broker,
        open_local_shard(new_shard, metrics=metrics) as local,
    ):
        service = MatcherService(
            db=db,
            shard=local,
            broker=broker,
            shard_id=shard_id,
            presence=Presence(db, local, shard_id, name=replica),
            connections=settings.matcher.load_connections,
            on_progress=_progress(shard_id, as_json=as_json),
            metrics=metrics,
        )
        process = Process(name="match", settings=settings, metrics=metrics, check=service.check)
        await run_process(process, [Service(name="matcher", run=service.run)], as_json=as_json, stop=asyncio.Event())


def _progress(shard: "ShardId", *, as_json: bool) -> Callable[[int, int], None]:
    """Tell how far the load is, at most each second and at its end: JSON lines, or lines for people."""
    started_s, told_s = time.monotonic(), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if done < total and now_s - told_s < TELL_S:
            return
        told_s = now_s
        if as_json:
            emit({"event": "loading", "shard": shard.label, "references": done, "total": total, "seconds": round(now_s - started_s, 3)})
        else:
            console().print(f"shard {shard.label}: {done:,} of {total:,} references in {now_s - started_s:.1f} s")

    return tell
