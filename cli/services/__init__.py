"""``sightline services``: real servers for development and tests, ready or with a reason why not."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from cli.output import JSON_OPTION, console, emit
from core.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from cli.services.choose import Found
    from cli.services.model import Kind

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Only = Annotated[str | None, typer.Option("--only", help="Some of postgres, kafka, rabbitmq, prometheus, by comma.")]
Dir = Annotated[Path, typer.Option("--dir", help="Folder of the servers' data, ports and logs.")]
SERVICES_DIR = Path(".services")


@app.callback()
def services() -> None:
    """Start, stop and look at PostgreSQL, Kafka and RabbitMQ for development and tests.

    A server comes from the URL in the settings if there is one, else from deploy/compose.yml if a container engine runs, else it
    is started as a process of this machine (Debian packages, Python wheels, Maven jars; fetched once).
    """


@app.command()
def start(
    ctx: typer.Context,
    only: Only = None,
    folder: Dir = SERVICES_DIR,
    scrape: Annotated[Path | None, typer.Option("--scrape", help="Prometheus configuration; with --only prometheus.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Start what does not run yet; print the settings that lead there. Safe to repeat. Exit code 8 if a server is missing."""
    from cli.services.choose import start_servers
    from cli.services.local import LocalServers

    settings = ctx.obj.settings()
    found = start_servers(settings, LocalServers(folder, scrape=scrape), _kinds(only))
    _report(found, as_json=as_json)
    if not as_json:
        _export(found)
    _fail_for([server for server in found if server.problem])


@app.command()
def install(only: Only = None) -> None:
    """Fetch the programs of local servers without starting them; what is there already stays."""
    from cli.services.local import LocalServers

    problems = LocalServers(SERVICES_DIR).fetch(_kinds(only))
    if problems:
        raise UnavailableError("services: " + "; ".join(f"{kind}: {problem}" for kind, problem in problems.items()))


@app.command()
def stop(only: Only = None, folder: Dir = SERVICES_DIR, as_json: bool = JSON_OPTION) -> None:
    """Stop the servers that ``start`` started; their data stays."""
    from cli.services.choose import stop_servers
    from cli.services.local import LocalServers

    stopped = stop_servers(LocalServers(folder), _kinds(only) if only else None)
    if as_json:
        emit({"stopped": stopped})
    else:
        console().print(f"stopped {', '.join(stopped)}" if stopped else "nothing to stop")


@app.command()
def status(
    ctx: typer.Context,
    only: Only = None,
    folder: Dir = SERVICES_DIR,
    env: Annotated[bool, typer.Option("--env", help="Print export lines for the servers that answer, for eval.")] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Say of each server where it is and whether it answers. Exit code 8 if one does not."""
    from cli.services.choose import server_status
    from cli.services.local import LocalServers

    found = server_status(ctx.obj.settings(), LocalServers(folder), _kinds(only))
    _report(found, as_json=as_json)
    if env and not as_json:
        _export(found)
    _fail_for([server for server in found if server.problem], explain=False)


def _kinds(only: str | None) -> "list[Kind]":
    from cli.services.model import DEFAULT_KINDS, Kind

    if only is None:
        return list(DEFAULT_KINDS)
    known: tuple[Kind, ...] = get_args(Kind)
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"--only {only}: unknown server {', '.join(unknown) or '(none given)'}; choose from {', '.join(known)}")
    return [kind for kind in known if kind in names]


def _report(found: "Sequence[Found]", *, as_json: bool) -> None:
    from ingest.urls import redact

    for server in found:
        state = "ready" if not server.problem else server.problem if server.problem in ("stopped", "not started") else "failed"
        if as_json:
            hidden = redact(server.url) if server.how == "settings" else server.url
            emit(
                {
                    "server": server.kind,
                    "state": state,
                    "how": server.how,
                    "url": hidden,
                    "version": server.version,
                    "problem": server.problem,
                }
            )
        else:
            colour = "green" if not server.problem else "red" if state == "failed" else "yellow"
            what = f"{redact(server.url)} ({' '.join(filter(None, (server.version, server.how)))})" if server.url else server.how
            reason = f": {server.problem}" if state == "failed" else ""
            console().print(f"{server.kind:<10} [{colour}]{state}[/]{reason}  {what}", soft_wrap=True)


def _export(found: "Sequence[Found]") -> None:
    """Print shell lines that lead to the servers which the settings do not name already."""
    from cli.services.choose import VARIABLES

    for server in found:
        if not server.problem and server.how != "settings":
            typer.echo(f"export {VARIABLES[server.kind]}={shlex.quote(server.url)}")


def _fail_for(failed: "Sequence[Found]", *, explain: bool = True) -> None:
    if failed and explain:
        raise UnavailableError("services: " + "; ".join(f"{server.kind}: {server.problem}" for server in failed))
    if failed:
        raise typer.Exit(UnavailableError.exit_code)
