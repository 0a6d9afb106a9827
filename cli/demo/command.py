"""The command: its options, its settings, and how it ends."""

import os
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli.demo.script import DURATION_S
from cli.output import JSON_OPTION, run_async
from core.errors import UnavailableError
from core.settings import Settings

if TYPE_CHECKING:
    from cli.demo.view import View

SHORTEST_S = 8.0  # the first visitors have arrived and stood still for some seconds
OWN_FOLDER = "demo"  # in the data folder
EPILOG = "Exit codes: 0 as the script says · 1 not so · 8 the port is taken · others as of sightline."

app = typer.Typer(add_completion=False)


@app.command(epilog=EPILOG)
def demo(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Play the footage once, print a summary and end.")] = False,
    as_json: bool = JSON_OPTION,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Where the API listens; 0 = any free port (default: 8400).")] = None,
    seconds: Annotated[float, typer.Option(min=SHORTEST_S, max=DURATION_S, help="Length of the footage.")] = DURATION_S,
) -> None:
    """Play simulated cameras through the whole platform and watch names appear."""
    settings = demo_settings(ctx.obj.settings(), port)  # before the heavy imports: what is wrong with it is said at once
    from cli.demo.play import prepare, show

    view = choose_view(as_json=as_json)
    try:
        programme = prepare(settings, view, duration_s=seconds)
        summary = run_async(show(settings, view, programme, once=once))
    finally:
        view.close()
    if summary is not None:
        view.summary(summary)
        raise typer.Exit(0 if summary.right else 1)


def demo_settings(settings: Settings, port: int | None) -> Settings:
    """Return the user's settings in a folder of the demo's own, so that a trial never mixes with real people, and with a port that is free.

    Raises:
        UnavailableError: another program has the port.
    """
    host, wanted = settings.api.host, settings.api.port if port is None else port
    try:
        with socket.create_server((host, wanted), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            free = int(probe.getsockname()[1])
    except OSError as err:
        reason = os.strerror(err.errno or 0)
        raise UnavailableError(
            f"demo: {host}:{wanted} can't be listened on ({reason}); choose another port with --port, or any with --port 0"
        ) from err
    api = settings.api.model_copy(update={"port": free})
    return settings.model_copy(update={"data_dir": settings.data_dir / OWN_FOLDER, "api": api})


def choose_view(*, as_json: bool) -> "View":
    """Return a live table for a terminal, lines for a pipe, JSON when asked for."""
    from cli.demo.view import JsonView, LineView, TableView

    if as_json:
        return JsonView()
    console = Console(highlight=False)
    return TableView(console) if sys.stdout.isatty() else LineView(console)
