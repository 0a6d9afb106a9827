"""``sightline run``: the whole platform in this process, until Ctrl-C."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.first_key import key_teller, tell_first_key
from cli.output import JSON_OPTION, console, emit, run_async
from core.settings import Settings

if TYPE_CHECKING:
    from api.sightings.models import SightingView
    from cli.platform import Platform

app = typer.Typer(help="Run the whole platform in this process: cameras, recognition, API.")


@app.command()
def run(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: this machine only).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API and the live page (default: 8400).")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Run the whole platform in this process: cameras, recognition, API.

    Prints a line per sighting as it becomes known, JSON lines with --json. Ctrl-C drains: frames in flight are finished, open tracks
    are told.
    """
    settings: Settings = ctx.obj.settings()
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"api": settings.api.model_copy(update=changes)})
    run_async(_run(settings, as_json=as_json))


async def _run(settings: Settings, *, as_json: bool) -> None:
    from api.security import check_api_settings
    from cli.platform import open_platform
    from cli.watch import follow_sightings

    check_api_settings(settings.api)
    async with open_platform(settings) as platform:
        await tell_first_key(platform.gallery.db, settings, key_teller(as_json=as_json))
        await _welcome(platform, as_json=as_json)
        watching = asyncio.create_task(follow_sightings(platform.parts.events, _emit if as_json else _Printer()), name="watch")
        try:
            await platform.run(asyncio.Event())
        finally:
            watching.cancel()
            await asyncio.wait({watching})


async def _welcome(platform: "Platform", *, as_json: bool) -> None:
    cameras = [camera.spec.name for camera in await platform.cameras.list()]
    counts = await platform.gallery.store.counts()
    url = f"http://{platform.settings.api.host}:{platform.settings.api.port}"
    if as_json:
        emit({"event": "started", "url": url, "cameras": cameras, "subjects": counts.subjects, "references": counts.references})
        return
    out = console()
    out.print(f"[bold]Sightline[/] · {url} · {len(cameras)} cameras · {counts.subjects} people enrolled · Ctrl-C ends")
    if not cameras:
        out.print("No cameras yet: sightline cameras add NAME rtsp://...", style="yellow")
    if not counts.subjects:
        out.print("Nobody is enrolled yet: sightline enroll FOLDER", style="yellow")


def _emit(sighting: "SightingView") -> None:
    emit({"event": "sighting", **sighting.model_dump(mode="json")})


class _Printer:
    """Prints a sighting when it begins, when its outcome changes and when it ends; not each time it is merely seen again."""

    def __init__(self) -> None:
        self._told: dict[str, str | None] = {}

    def __call__(self, sighting: "SightingView") -> None:
        from rich.console import Console
        from rich.markup import escape

        state = sighting.subject or sighting.outcome
        if self._told.get(sighting.sighting_id) == state and not sighting.closed:
            return
        self._told[sighting.sighting_id] = state
        if sighting.closed:
            del self._told[sighting.sighting_id]
        unnamed = "[yellow]unknown[/]" if sighting.outcome == "stranger" else "[dim]too poor to tell[/]"
        who = f"[bold green]{escape(sighting.subject or '')}[/]" if sighting.outcome == "subject" else unnamed
        score = "" if sighting.score is None else f" {sighting.score:.2f}/{sighting.threshold:.2f}"
        ended = " left" if sighting.closed else ""
        Console(highlight=False).print(f"{datetime.now().astimezone():%H:%M:%S}  {escape(sighting.camera):<16} {who}{score}{ended}")
