"""How commands speak: JSON lines on stdout for programs, tables and one-line errors on stderr for people."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import typer
from rich.console import Console

T = TypeVar("T")

JSON_OPTION = typer.Option(False, "--json", help="Print JSON lines on stdout instead of tables.")


def console() -> Console:
    """Return the console for people (stderr, so that stdout stays clean for --json and pipes)."""
    return Console(stderr=True, highlight=False)


def emit(value: Any) -> None:
    """Write one JSON line to stdout and flush it, so that a reader sees each result as it happens."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return asyncio.run(main)
