"""``sightline ingest``: one ingester of a fleet; add processes to add cameras."""

import asyncio
import os
import re
import socket
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import JSON_OPTION, run_async
from core.errors import UsageError
from core.settings import Settings

if TYPE_CHECKING:
    from core.live import LiveTracks
    from core.metrics import Metrics

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
BROKER_RETRY_S = 5.0  # between attempts to reach a broker that was away at the start; later losses are mended inside

app = typer.Typer(help="Read a share of the fleet's cameras and publish what moves.")


@app.command()
def ingest(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Option(help="Name of this ingester, unique in the fleet (default: ingest.name, else host and process id).")
    ] = None,
    region: Annotated[
        list[str] | None, typer.Option(help="Cameras of these regions only (may be given several times; default: all).")
    ] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Read a share of the fleet's cameras and publish what moves.

    Cameras come from the database; all ingesters share them fairly and take over from one that dies. While Kafka is away, frames are kept
    in the data folder. Ctrl-C (or SIGTERM) gives the cameras to the others at once.
    """
    settings: Settings = ctx.obj.settings()
    for option, value in (("--name", name), *(("--region", one) for one in region or ())):
        if value is not None and not NAME.fullmatch(value):
            raise UsageError(f"{option} {value!r}: use 1 to 64 letters, digits, dots, underscores and dashes")
    run_async(_ingest(settings, name or settings.ingest.name or _default_name(), tuple(region or ()), as_json=as_json))


def _default_name() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return f"{host[:50]}-{os.getpid()}"


async def _ingest(settings: Settings, name: str, regions: tuple[str, ...], *, as_json: bool) -> None:
    from cli.database import open_database_for
    from cli.process import Process, require_fleet, run_process
    from core.adapters.kafka_log import open_kafka_log
    from core.live import LiveTracks
    from core.metrics import Metrics
    from core.runner import Service
    from core.secrets import SecretBox
    from ingest.cameras import CameraStore
    from ingest.leased import LeasedCameras
    from ingest.leases import Identity, LeaseStore
    from ingest.service import IngestService
    from ingest.spooling import Bounds, open_spooling

    require_fleet(settings, broker=False)
    metrics, live, own = Metrics(), LiveTracks(), settings.ingest
    me = Identity(id=name, token=str(uuid.uuid4()), host=socket.gethostname(), pid=os.getpid(), regions=regions)
    async with (
        open_database_for(settings) as db,
        open_kafka_log(settings.log_url, settings.kafka, metrics=metrics) as log,
        open_spooling(
            log, settings.data_dir, Bounds(disk_bytes=own.spool_bytes, age_s=own.spool_max_age_s), vault=db.vault, metrics=metrics
        ) as publisher,
    ):
        store = CameraStore(db, SecretBox(db.vault), allow=settings.outbound.camera_allow)
        cameras = LeasedCameras(LeaseStore(db), store, me, lease_s=own.lease_s, metrics=metrics)
        service = IngestService(cameras, publisher, live=live, settings=own, metrics=metrics)

        async def check() -> str:
            return cameras.problem

        services = [
            Service(name="cameras", run=service.run),
            Service(name="leases", run=lambda: cameras.watch(service.refresh), drained=publisher.drained),
            Service(name="holds", run=lambda: _follow_holds(settings, name, live, metrics, regions)),
            Service(name="frames", run=publisher.run),
        ]
        await run_process(Process(name="ingest", settings=settings, metrics=metrics, check=check), services, as_json=as_json)


async def _follow_holds(settings: Settings, name: str, live: "LiveTracks", metrics: "Metrics", regions: tuple[str, ...]) -> None:
    """Follow live tracks while there is a broker; cameras run without one."""
    import structlog

    from core.adapters.amqp import open_amqp
    from core.errors import UnavailableError
    from core.live import follow_holds

    log = structlog.get_logger("ingest")
    if settings.broker_url == "memory:":
        log.warning("no broker_url: live tracks do not hold gates open; motion, hold and heartbeat do")
        return
    told = False
    while True:
        try:
            async with open_amqp(settings.broker_url, settings.broker, name=f"sightline ingest {name}", metrics=metrics) as broker:
                await follow_holds(live, broker, regions)
        except UnavailableError as err:
            if not told:
                log.warning("live tracks do not hold gates open: the broker is away", error=str(err))
            told = True
        await asyncio.sleep(BROKER_RETRY_S)
