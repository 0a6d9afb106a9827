"""``sightline topics``: the fleet's topics in Kafka; made, grown, looked at."""

from typing import Annotated, Any

import typer
from rich.table import Table

from cli.fleet_log import require_kafka
from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import UsageError
from core.settings import Settings

REGIONS = Annotated[list[str] | None, typer.Option("--region", help="Only this region, without asking the database (may be repeated).")]
CAMERAS = Annotated[int, typer.Option(min=0, help="With --region: how many cameras each of these regions has.")]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def topics() -> None:
    """Make, grow and look at the fleet's topics in Kafka."""


@app.command("list")
def list_topics(
    ctx: typer.Context,
    group: Annotated[list[str] | None, typer.Option(help="Show the lag of these consumer groups instead of the fleet's.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """List the topics with their partitions, records and the lag of each consumer group."""
    from core.topology import RECOGNIZE_GROUP, SIGHTINGS_GROUP

    admin = _admin(ctx.obj.settings())
    groups = group or [RECOGNIZE_GROUP, SIGHTINGS_GROUP]
    states = admin.states(admin.ours(), groups)
    if as_json:
        for s in states:
            emit({"topic": s.name, "partitions": s.partitions, "replication": s.replication, "records": s.records, "lag": s.lag})
        return
    table = Table("topic", "partitions", "copies", "records", *(f"lag of\n{name}" for name in groups))
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for s in states:
        lags = (f"{s.lag[name]:,}" if name in s.lag else "" for name in groups)
        table.add_row(s.name, str(s.partitions), str(s.replication), f"{s.records:,}", *lags)
    console().print(table if states else "no topics yet; 'sightline topics ensure' makes them")


@app.command()
def ensure(
    ctx: typer.Context,
    region: REGIONS = None,
    cameras: CAMERAS = 0,
    partitions: Annotated[int | None, typer.Option(min=1, help="Of each new frames topic, instead of one per 8 cameras.")] = None,
    frames_hours: Annotated[float | None, typer.Option(min=0.1, help="How long frames are kept (new topics: 4).")] = None,
    sightings_days: Annotated[float | None, typer.Option(min=0.01, help="How long sightings stay in Kafka (new topics: 7).")] = None,
    dead_days: Annotated[float | None, typer.Option(min=0.01, help="How long dead letters are kept (new topics: 14).")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Make the topics that are missing: frames of each region that has cameras, sightings, dead letters. Tells which became too small."""
    settings: Settings = ctx.obj.settings()
    admin = _admin(settings)
    from core.adapters.kafka_plan import Retention, fleet_topics

    retention = Retention(
        frames=frames_hours,
        sightings=None if sightings_days is None else sightings_days * 24,
        dead=None if dead_days is None else dead_days * 24,
    )
    counts = _cameras(settings, region, cameras)
    specs = fleet_topics(counts, replication=settings.kafka.replication, retention=retention, frame_partitions=partitions)
    done = admin.ensure(specs)
    if as_json:
        for one in done:
            emit({"topic": one.spec.name, "partitions": one.partitions, "wanted": one.spec.partitions, "action": one.action})
        return
    table = Table("topic", "partitions", "action")
    for one in done:
        small = one.partitions < one.spec.partitions
        table.add_row(one.spec.name, str(one.partitions), one.action + (f"; {one.spec.partitions} would suit, see grow" if small else ""))
    console().print(table)
    if not counts:
        console().print("there are no cameras yet, so no frames topics; run this again after 'sightline cameras add', or give --region")


@app.command()
def grow(
    ctx: typer.Context,
    region: REGIONS = None,
    cameras: CAMERAS = 0,
    topic: Annotated[str | None, typer.Option(help="Grow this topic, to --partitions.")] = None,
    partitions: Annotated[int | None, typer.Option(min=1, help="To this many, instead of one per 8 cameras.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Give topics more partitions: those that the fleet has outgrown, or the one you name.

    Cameras move to other partitions at that moment: nothing is lost, but a face that is in view may be told as two sightings of one visit.
    """
    settings: Settings = ctx.obj.settings()
    if topic is not None and (partitions is None or region):
        raise UsageError("--topic needs --partitions, and no --region")
    admin = _admin(settings)
    from core.topology import frames_topic

    if topic is not None and partitions is not None:
        wanted = {topic: partitions}
    else:
        wanted = _wanted(_cameras(settings, region, cameras))
        if partitions is not None:
            wanted = {name: partitions for name in wanted if not region or name in {frames_topic(one) for one in region}}
    there = admin.partitions()
    for name, count in wanted.items():
        if partitions is None and count <= there.get(name, 0):
            continue
        before = admin.grow(name, count)
        if as_json:
            emit({"topic": name, "before": before, "partitions": count})
        else:
            console().print(f"{name}: {before} -> {count} partitions")
    if not as_json and partitions is None and all(count <= there.get(name, 0) for name, count in wanted.items()):
        console().print("every topic is large enough")


def _wanted(counts: dict[str, int]) -> dict[str, int]:
    """Return the partitions of the topics that carry traffic, by the rule."""
    from core.adapters.kafka_plan import Retention, fleet_topics
    from core.topology import DEAD_PREFIX

    specs = fleet_topics(counts, replication=1, retention=Retention())
    return {spec.name: spec.partitions for spec in specs if not spec.name.startswith(DEAD_PREFIX)}


def _admin(settings: Settings) -> Any:
    require_kafka(settings)
    from core.adapters.kafka_topics import TopicAdmin

    return TopicAdmin(settings.log_url, settings.kafka)


def _cameras(settings: Settings, regions: list[str] | None, each: int) -> dict[str, int]:
    """Return {region: cameras}: of the options, else of the database."""
    from ingest.cameras import NAME

    if regions:
        if wrong := [region for region in regions if not NAME.fullmatch(region)]:
            raise UsageError(f"--region {wrong[0]!r}: use 1 to 64 letters, digits, dots, underscores and dashes")
        return dict.fromkeys(regions, each)
    if each:
        raise UsageError("--cameras says how large the regions of --region are; without --region the database knows")
    counts: dict[str, int] = {}

    async def count() -> None:
        from cli.database import open_database_for
        from core.secrets import SecretBox
        from ingest.cameras import CameraStore

        async with open_database_for(settings) as db:
            for record in await CameraStore(db, SecretBox(db.vault), allow=settings.outbound.camera_allow).list():
                counts[record.spec.region] = counts.get(record.spec.region, 0) + 1

    run_async(count())
    return counts
