"""``sightline audit``: prove that nothing was lost, and that what was done is kept as it was."""

import sys
import time
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.fleet_log import frames_topics, require_kafka
from cli.output import JSON_OPTION, console, emit
from cli.times import HELP, parse_time
from core.accounting import MISSING_SHOWN
from core.settings import Settings

COUNTS = ("published", "finished", "dead_lettered", "in_flight", "lost", "duplicates", "unreadable", "replayed")
ALWAYS = ("published", "finished", "dead_lettered", "in_flight", "lost")

app = typer.Typer(no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Prove that nothing was lost, and that what was done is kept as it was."""


@app.command()
def verify(
    ctx: typer.Context,
    since: Annotated[str | None, typer.Option(help=f"Entries from this time on, {HELP}; the one before them is trusted.")] = None,
    anchor: Annotated[str | None, typer.Option(metavar="SEQ:HASH", help="An entry kept elsewhere: the end was not cut before it.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Verify who did what: no entry of the audit was changed, removed, inserted or moved.

    Exit code 1 names the first entry that is wrong, and what became of it. Prints an anchor to keep where the database's owner can't
    reach; the API writes one to its log every ten minutes.
    """
    from cli.audit_chain import verify_chain

    settings: Settings = ctx.obj.settings()
    since_s = parse_time(since, now_s=time.time(), option="--since") if since else None
    verify_chain(settings, since_s=since_s, anchor=anchor, as_json=as_json)


@app.command()
def frames(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help=f"Frames published from this time on, {HELP}.")] = "-1h",
    region: Annotated[list[str] | None, typer.Option(help="Only these regions (may be given several times).")] = None,
    wait: Annotated[float, typer.Option(min=0, help="First wait at most so long until what is published by now is finished.")] = 0.0,
    as_json: bool = JSON_OPTION,
) -> None:
    """Account for every frame: published = finished + dead-lettered + in flight, per camera; holes in the numbering are lost frames.

    Exit code 1 when the account does not balance, a frame is lost, or Kafka forgot frames before they were finished.
    """
    settings: Settings = ctx.obj.settings()
    since_s = parse_time(since, now_s=time.time(), option="--since")
    require_kafka(settings)
    from core.adapters.kafka_scan import KafkaReader, audit_frames

    reader = KafkaReader(settings.log_url, settings.kafka)
    topics = frames_topics(reader.admin, region)
    with _bar(as_json) as bar:
        task = bar.add_task("reading what Kafka keeps", total=None)
        result = audit_frames(reader, topics, since_s, lambda done, total: bar.update(task, completed=done, total=total), wait_s=wait)
    _tell(result, since_s, as_json=as_json)
    if not result.balanced:
        sys.exit(1)


def _bar(as_json: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("records"), TimeRemainingColumn())
    return Progress(*columns, console=console(), transient=True, disable=as_json or not sys.stderr.isatty())


def _tell(result: Any, since_s: float, *, as_json: bool) -> None:
    totals = {name: sum(getattr(camera, name) for camera in result.cameras) for name in COUNTS}
    balance = sum(abs(camera.balance) for camera in result.cameras)
    if as_json:
        for camera in result.cameras:
            counts = {name: getattr(camera, name) for name in COUNTS}
            emit({"camera": camera.camera, "region": camera.region, **counts, "balance": camera.balance, "missing": camera.missing})
        total = {"cameras": len(result.cameras), **totals, "balance": balance}
        emit({"since_s": since_s, "total": total, "expired": result.expired, "balanced": result.balanced})
        return
    console().print(_table(result, totals))
    for camera in result.cameras:
        if camera.missing:
            more = " ..." if len(camera.missing) == MISSING_SHOWN else ""
            console().print(f"{camera.camera}: missing {', '.join(camera.missing)}{more}")
    verdicts = {
        f"{result.expired:,} records expired unfinished; keep frames longer ('topics ensure --frames-hours N')": result.expired,
        f"{totals['lost']:,} frames are lost: they were accepted and never reached Kafka": totals["lost"],
        f"the account is out of balance by {balance:,}": balance,
        f"balanced: every frame is finished, dead-lettered or in flight ({totals['in_flight']:,})": result.balanced,
    }
    for verdict, holds in verdicts.items():
        if holds:
            console().print(f"[{'green' if result.balanced else 'red'}]{verdict}[/]")


def _table(result: Any, totals: dict[str, int]) -> Table:
    """Return the account of each camera; counts that are zero for all are left out when they usually are."""
    shown = [name for name in COUNTS if name in ALWAYS or totals[name]]
    table = Table("camera", "region", *(name.replace("_", "-") for name in shown))
    for column in table.columns[2:]:
        column.justify = "right"
    for camera in result.cameras:
        table.add_row(camera.camera, camera.region, *(f"{getattr(camera, name):,}" for name in shown))
    table.add_section()
    table.add_row("all", "", *(f"{totals[name]:,}" for name in shown))
    return table
