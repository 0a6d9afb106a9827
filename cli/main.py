"""The ``sightline`` command: global options, subcommands, and one place where errors become one line and an exit code."""

import importlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import structlog
import typer

from cli.lazy import lazy_group
from core.errors import SightlineError
from core.settings import Settings, load_settings

COMMANDS: dict[str, str] = {
    "demo": "Play simulated cameras through the whole platform and watch names appear.",
    "run": "Run the whole platform in this process: cameras, recognition, API.",
    "enroll": "Enrol people from photos: folders, files, a CSV or a zip.",
    "identify": "Say who is in pictures or recorded video.",
    "search": "List the enrolled people nearest to each face of a photo.",
    "subjects": "List, show, rename and erase enrolled people.",
    "watchlists": "Say whose appearance raises an alert, and list the alerts.",
    "cases": "List cases, and check their exports.",
    "cameras": "Add, change, list, test and remove cameras.",
    "ingest": "Fleet: read cameras and publish their gated frames.",
    "recognize": "Fleet: turn frames into sightings.",
    "match": "Fleet: hold a shard of the gallery in memory and answer probes.",
    "sightings": "Fleet: store what was seen and raise alerts.",
    "keys": "Make, list, rotate and revoke API keys.",
    "users": "Add, list, disable and remove people who log in with a password.",
    "api": "Fleet: serve the API.",
    "topics": "Fleet: create, grow and list the topics of the log.",
    "replay": "Fleet: put frames of a time range through recognition again.",
    "audit": "Verify who did what; account for every frame of a fleet.",
    "capacity": "Plan a fleet: cores, GPUs, partitions, shards, memory, bandwidth.",
    "vault": "Show and replace the keys that seal faces and embeddings.",
    "services": "Start and stop PostgreSQL, Kafka and RabbitMQ for development and tests.",
    "evaluate": "Measure accuracy on your own photos, with thresholds and error rates.",
    "bench": "Measure speed on this machine.",
    "models": "List, show, build, pull and choose models.",
    "doctor": "Check this installation and say what to mend.",
}
EPILOG = (
    "Exit codes: 0 done · 1 failed · 2 usage · 3 settings · 4 unreadable file · 5 not found · 6 conflict · "
    "7 model · 8 server or stream unavailable · 130 interrupted"
)


def _load(name: str) -> typer.Typer:
    loaded: typer.Typer = importlib.import_module(f"cli.{name}").app
    return loaded


app = typer.Typer(
    cls=lazy_group(COMMANDS, _load),
    no_args_is_help=True,
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every subcommand gets as ``ctx.obj``."""

    data_dir: Path | None
    verbose: bool

    def settings(self) -> Settings:
        """Read the settings; call it first in a command, so that its errors come before any work."""
        return load_settings(data_dir=self.data_dir, log_level="debug" if self.verbose else None)


@app.callback()
def root(
    ctx: typer.Context,
    data: Annotated[Path | None, typer.Option("--data", help="Folder where everything is remembered (default: ./data).")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log details to stderr.")] = False,
) -> None:
    """Sightline: from a camera to a name."""
    configure_logging("debug" if verbose else "warning")
    ctx.obj = Context(data_dir=data, verbose=verbose)


def configure_logging(level: str) -> None:
    """Send structured logs to stderr, from the given level up."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the stderr of the moment: tests and wrappers replace it
    )


def main() -> None:
    """Run the command line; entry point of the package."""
    try:
        app()
    except SightlineError as err:
        typer.echo(f"sightline: {err}", err=True)
        sys.exit(err.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
