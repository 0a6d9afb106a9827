"""``sightline watchlists``: whose appearance raises an alert, and the alerts there were."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.output import JSON_OPTION, console, emit, run_async
from cli.times import HELP, parse_time
from core.errors import UsageError
from core.settings import Settings

if TYPE_CHECKING:
    from core.ports import Database
    from sightings.record import StoredAlert
    from sightings.watchlists import Watchlist, WatchlistStore

NAME = typer.Argument(help="Name of a watchlist.")
SUBJECTS = typer.Argument(help="Names or ids of enrolled people.")
PAGE = 500

DESCRIPTION = Annotated[str | None, typer.Option(help="What it is for.")]
ALERT_ON = Annotated[str | None, typer.Option(help="match: its people. stranger: anybody who is not enrolled in its gallery.")]
COLOUR = Annotated[str | None, typer.Option(help="Of its alerts: #rrggbb.")]
SOUND = Annotated[str | None, typer.Option(help="That a console plays: none, chime, alarm or siren.")]
ACKNOWLEDGEMENT = Annotated[
    bool | None, typer.Option("--acknowledgement/--no-acknowledgement", help="Whether an alert must be acknowledged before it is closed.")
]
GROUP = Annotated[list[str] | None, typer.Option(help="Only at cameras of this group; may be given several times ('' = at all cameras).")]
TIME_ZONE = Annotated[str | None, typer.Option(help="Of the hours: UTC, Europe/Berlin, ...")]
HOURS = Annotated[list[str] | None, typer.Option(help="Only then: 'mon-fri 08:00-18:00'; may be given several times ('' = always).")]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def watchlists() -> None:
    """Say whose appearance raises an alert, and list the alerts. What is changed holds from the next sighting on."""


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, underscores and dashes.")],
    collection: Annotated[str | None, typer.Option(help="The gallery whose people it lists (default: recognize.collection).")] = None,
    description: DESCRIPTION = None,
    alert_on: ALERT_ON = None,
    colour: COLOUR = None,
    sound: SOUND = None,
    acknowledgement: ACKNOWLEDGEMENT = None,
    group: GROUP = None,
    time_zone: TIME_ZONE = None,
    hours: HOURS = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a watchlist."""
    chosen = collection or ctx.obj.settings().recognize.collection
    given = _policy(ctx.params)

    async def work(store: "WatchlistStore") -> None:
        from sightings.watchlists import Policy

        made = await store.add(name, collection=chosen, policy=Policy(**given))
        then = "alerts on strangers" if alert_on == "stranger" else f"made; 'sightline watchlists put {name} PERSON' fills it"
        _say(as_json, made, f"watchlist {name} {then}")

    _with_store(ctx, work)


@app.command("set")
def change(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    description: DESCRIPTION = None,
    alert_on: ALERT_ON = None,
    colour: COLOUR = None,
    sound: SOUND = None,
    acknowledgement: ACKNOWLEDGEMENT = None,
    group: GROUP = None,
    time_zone: TIME_ZONE = None,
    hours: HOURS = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Change what a watchlist asks for; what is not named stays."""
    changes = _policy(ctx.params)
    if not changes:
        raise UsageError("nothing to change: name at least one of the options that 'sightline watchlists set --help' lists")

    async def work(store: "WatchlistStore") -> None:
        _say(as_json, await store.change(name, changes), f"watchlist {name} changed")

    _with_store(ctx, work)


@app.command("list")
def list_watchlists(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the watchlists."""

    async def work(store: "WatchlistStore") -> None:
        found = await store.watchlists()
        if as_json:
            for one in found:
                emit(watchlist_line(one))
            return
        table = Table("name", "alerts on", "collection", "cameras", "hours", "raises alerts")
        for one in found:
            who = "strangers" if one.policy.alert_on == "stranger" else f"{one.subjects} people"
            where, when = ", ".join(one.policy.camera_groups) or "all", "some" if one.policy.active_hours else "always"
            table.add_row(one.name, who, one.collection, where, when, "yes" if one.enabled else "no")
        console().print(table if found else "no watchlists yet; 'sightline watchlists add NAME' makes one")

    _with_store(ctx, work)


@app.command()
def show(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """List the people on a watchlist."""

    async def work(store: "WatchlistStore") -> None:
        members = await store.members(name)
        if as_json:
            for one in members:
                emit({"subject": one.subject, "subject_id": one.subject_id})
            return
        table = Table("name", "id")
        for one in members:
            table.add_row(escape(one.subject), one.subject_id)
        console().print(table if members else f"nobody is on it; 'sightline watchlists put {name} PERSON' puts somebody there")

    _with_store(ctx, work)


@app.command()
def put(
    ctx: typer.Context, name: Annotated[str, NAME], subjects: Annotated[list[str], SUBJECTS], as_json: bool = JSON_OPTION
) -> None:  # fmt: skip
    """Put people on a watchlist."""
    _change(ctx, name, lambda store: store.put(name, subjects), ("put", "put on"), as_json=as_json)


@app.command()
def take(
    ctx: typer.Context, name: Annotated[str, NAME], subjects: Annotated[list[str], SUBJECTS], as_json: bool = JSON_OPTION
) -> None:  # fmt: skip
    """Take people off a watchlist."""
    _change(ctx, name, lambda store: store.take(name, subjects), ("taken", "taken off"), as_json=as_json)


@app.command()
def enable(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Let a watchlist raise alerts again."""
    _switch(ctx, name, as_json=as_json, enabled=True)


@app.command()
def disable(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Keep a watchlist, but let it raise no alerts."""
    _switch(ctx, name, as_json=as_json, enabled=False)


@app.command()
def remove(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Remove a watchlist. Its alerts stay, and so do its people."""

    async def work(store: "WatchlistStore") -> None:
        gone = await store.get(name)
        await store.remove(name)
        _say(as_json, gone, f"watchlist {name} removed", removed=True)

    _with_store(ctx, work)


@app.command()
def alerts(
    ctx: typer.Context,
    watchlist: Annotated[str | None, typer.Option(help="Of this watchlist only.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Raised since this time, {HELP}.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: bool = JSON_OPTION,
) -> None:
    """List alerts, newest first."""
    since_s = None if since is None else parse_time(since, now_s=time.time(), option="--since")

    async def work(db: "Database") -> None:
        from sightings.alerts import AlertFilter, AlertStore

        wanted = AlertFilter(watchlist=watchlist, since_s=since_s)
        store, found, cursor = AlertStore(db), list["StoredAlert"](), None
        while len(found) < limit:
            page, cursor = await store.query(wanted, limit=min(PAGE, limit - len(found)), cursor=cursor)
            found += page
            if cursor is None:
                break
        _show_alerts(found, as_json=as_json)

    _with_database(ctx, work)


def alert_line(alert: "StoredAlert") -> dict[str, Any]:
    """Return an alert as it is printed."""
    return {
        "alert_id": alert.alert_id,
        "watchlist": alert.watchlist,
        "camera": alert.camera,
        "subject": alert.subject,
        "subject_id": alert.subject_id,
        "kind": alert.kind,
        "assigned_to": alert.assigned_to,
        "score": None if alert.score is None else round(alert.score, 4),
        "first_at": _time(alert.first_s),
        "last_at": _time(alert.last_s),
        "raised_at": _time(alert.raised_s),
        "state": alert.state,
        "sighting_id": alert.sighting_id,
        "episode_id": alert.episode_id,
    }


def watchlist_line(watchlist: "Watchlist") -> dict[str, Any]:
    """Return a watchlist as it is printed."""
    return {
        "name": watchlist.name,
        "collection": watchlist.collection,
        "enabled": watchlist.enabled,
        "subjects": watchlist.subjects,
        "description": watchlist.policy.description,
        "alert_on": watchlist.policy.alert_on,
        "colour": watchlist.policy.colour,
        "sound": watchlist.policy.sound,
        "acknowledgement": watchlist.policy.acknowledgement,
        "camera_groups": list(watchlist.policy.camera_groups),
        "time_zone": watchlist.policy.time_zone,
        "active_hours": [interval.line() for interval in watchlist.policy.active_hours],
    }


def _policy(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a policy that options name."""
    from sightings.hours import parse_interval

    names = ("description", "alert_on", "colour", "sound", "acknowledgement", "time_zone")
    given = {name: options[name] for name in names if options[name] is not None}
    if options["group"] is not None:
        given["camera_groups"] = tuple(sorted({one for one in options["group"] if one}))
    if options["hours"] is not None:
        given["active_hours"] = tuple(parse_interval(one) for one in options["hours"] if one)
    return given


def _show_alerts(found: "list[StoredAlert]", *, as_json: bool) -> None:
    lines = [alert_line(alert) for alert in found]
    if as_json:
        for line in lines:
            emit(line)
        return
    table = Table("raised", "watchlist", "who", "camera", "from", "to", "score")
    for line in lines:
        who = escape(line["subject"] or "") or ("[dim]stranger[/]" if line["kind"] == "stranger" else "[dim]erased[/]")
        table.add_row(
            line["raised_at"], line["watchlist"], who, line["camera"], line["first_at"], line["last_at"], str(line["score"] or "-")
        )  # fmt: skip
    console().print(table if lines else "no alerts")


def _time(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")


def _say(as_json: bool, watchlist: "Watchlist", text: str, **more: Any) -> None:
    if as_json:
        emit({**watchlist_line(watchlist), **more})
    else:
        console().print(text)


def _change(
    ctx: typer.Context, name: str, change: "Callable[[WatchlistStore], Awaitable[int]]", said: tuple[str, str], *, as_json: bool
) -> None:
    """Change who is on a watchlist and say how many it was: (key of the JSON, words of the text)."""

    async def work(store: "WatchlistStore") -> None:
        count = await change(store)
        _say(as_json, await store.get(name), f"{count} {said[1]} watchlist {name}", **{said[0]: count})

    _with_store(ctx, work)


def _switch(ctx: typer.Context, name: str, *, as_json: bool, enabled: bool) -> None:
    async def work(store: "WatchlistStore") -> None:
        text = f"watchlist {name} raises alerts" if enabled else f"watchlist {name} raises no alerts"
        _say(as_json, await store.set_enabled(name, enabled), text)

    _with_store(ctx, work)


def _with_store(ctx: typer.Context, work: "Callable[[WatchlistStore], Awaitable[None]]") -> None:
    async def opened(db: "Database") -> None:
        from sightings.watchlists import WatchlistStore

        await work(WatchlistStore(db))

    _with_database(ctx, opened)


def _with_database(ctx: typer.Context, work: "Callable[[Database], Awaitable[None]]") -> None:
    settings: Settings = ctx.obj.settings()

    async def opened() -> None:
        from cli.database import open_database_for

        async with open_database_for(settings) as db:
            await work(db)

    run_async(opened())
