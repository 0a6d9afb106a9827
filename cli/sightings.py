"""``sightline sightings``: one keeper of the record of a fleet; any number may run."""

import asyncio
from typing import TYPE_CHECKING

import typer

from cli.output import JSON_OPTION, console, emit, run_async
from core.settings import Settings

if TYPE_CHECKING:
    from sightings.record import StoredAlert

app = typer.Typer(help="Store what the fleet saw, and raise alerts.")


@app.command()
def sightings(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """Store what the fleet saw, and raise alerts.

    Takes sightings from Kafka into the database, with episodes and the alerts of watchlists; erases what is too old. Prints a line for
    each alert, JSON lines with --json. Ctrl-C (or SIGTERM) stops; what is not stored goes to another, or waits in Kafka.
    """
    run_async(_sightings(ctx.obj.settings(), as_json=as_json))


async def _sightings(settings: Settings, *, as_json: bool) -> None:
    from datetime import timedelta

    from cli.database import open_database_for
    from cli.notify import notifying
    from cli.process import Process, require_fleet, run_process
    from core.adapters.kafka_log import open_kafka_log
    from core.errors import UnavailableError
    from core.metrics import Metrics
    from core.runner import Service
    from core.topology import SIGHTINGS_TOPIC
    from sightings.retention import Retention, data_classes
    from sightings.service import SightingsService
    from sightings.store import SightingStore

    require_fleet(settings, broker=False)
    metrics = Metrics()
    async with open_database_for(settings) as db, open_kafka_log(settings.log_url, settings.kafka, metrics=metrics) as log:
        store = SightingStore(db, episode_gap=timedelta(seconds=settings.sightings.episode_gap_s))
        service = SightingsService(log=log, store=store, metrics=metrics, vault=db.vault, publish_alert=_emit if as_json else _show)
        retention = Retention(db=db, classes=data_classes(settings), metrics=metrics)

        async def check() -> str:
            try:
                await db.fetch("select 1")
            except UnavailableError as err:
                return str(err)
            return "it does not read the log yet" if not service.joined else await log.check(SIGHTINGS_TOPIC)

        process = Process(name="sightings", settings=settings, metrics=metrics, check=check)
        services = [
            Service(name="sightings", run=service.run),
            Service(name="retention", run=retention.run),
            *notifying(settings, db, store, metrics),
        ]
        await run_process(process, services, as_json=as_json, stop=asyncio.Event())


def _emit(alert: "StoredAlert") -> None:
    from cli.watchlists import alert_line

    emit({"event": "alert", **alert_line(alert)})


def _show(alert: "StoredAlert") -> None:
    from cli.watchlists import alert_line

    line = alert_line(alert)
    console().print(f"[bold red]alert[/] {line['watchlist']}: {line['subject']} at {line['camera']}, {line['first_at']}")
