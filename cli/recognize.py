"""``sightline recognize``: one recognizer of a fleet; add processes to add capacity."""

import asyncio
from typing import Annotated

import typer

from cli.output import JSON_OPTION, run_async
from core.settings import Settings

app = typer.Typer(help="Turn frames of the fleet's cameras into sightings.")


@app.command()
def recognize(
    ctx: typer.Context,
    region: Annotated[
        list[str] | None, typer.Option(help="Frames of these regions only (may be given several times; default: all).")
    ] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Turn frames of the fleet's cameras into sightings.

    Takes frames from Kafka, asks the matchers over RabbitMQ who is seen, and publishes sightings to Kafka; follows the rules (thresholds,
    wrong names, opt-outs) in the database, and goes on with the last ones while that is away. Cameras are shared among all recognizers of
    a region, and each stays with one while that one lives. Ctrl-C (or SIGTERM) drains: what is open is told, what is not finished goes to
    another.
    """
    settings: Settings = ctx.obj.settings()
    run_async(_recognize(settings, region or ["*"], as_json=as_json))


async def _recognize(settings: Settings, regions: list[str], *, as_json: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from cli.compose import load_models
    from cli.database import open_database_for
    from cli.process import Process, require_fleet, run_process
    from core.adapters.amqp import open_amqp
    from core.adapters.kafka_log import open_kafka_log
    from core.live import LiveTracks, publish_holds
    from core.metrics import Metrics
    from core.runner import Service
    from core.topology import SIGHTINGS_TOPIC
    from matcher.remote import open_remote_matcher
    from recognize.recognizer import Recognizer
    from recognize.rules.follow import open_rulebook
    from recognize.service import RecognizeService
    from recognize.threshold import ThresholdPolicy
    from recognize.vision import Vision

    require_fleet(settings)
    models, metrics, live = load_models(settings), Metrics(), LiveTracks()
    with ThreadPoolExecutor(1, thread_name_prefix="models") as executor:
        async with (
            open_database_for(settings) as db,
            open_rulebook(db) as book,
            open_kafka_log(settings.log_url, settings.kafka, metrics=metrics) as log,
            open_amqp(settings.broker_url, settings.broker, name="sightline recognize", metrics=metrics) as broker,
            open_remote_matcher(broker, timeout_s=settings.matcher.timeout_s, metrics=metrics) as matcher,
        ):
            service = RecognizeService(
                recognizer=Recognizer(
                    vision=Vision(models.detector, models.embedder, executor),
                    matcher=matcher,
                    policy=ThresholdPolicy(calibration=models.calibration, settings=settings.recognize),
                    book=book,
                    live=live,
                    metrics=metrics,
                ),
                log=log,
                metrics=metrics,
                batch_frames=models.batch_frames(settings),
                regions=regions,
                vault=db.vault,
            )

            async def check() -> str:
                return "it does not read the log yet" if not service.joined else await log.check(SIGHTINGS_TOPIC)

            process = Process(name="recognize", settings=settings, metrics=metrics, check=check)
            services = [Service(name="recognize", run=service.run), Service(name="live", run=lambda: publish_holds(live, broker))]
            await run_process(process, services, as_json=as_json, stop=asyncio.Event())
