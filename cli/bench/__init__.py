"""Benchmarks: each prints JSON with the hardware and compares in one run.

Each is a module ``cli/bench/<name>.py`` with ``register(app)``, which adds one command; it is imported only when used.
"""

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

BENCHES: dict[str, str] = {
    "ingest": "Decode, gate and encode frames.",
    "detect": "Find faces in 720p and 1080p frames.",
    "embed": "Align, judge and embed faces.",
    "match": "Search a large gallery, beside FAISS as installed.",
    "standalone": "Run cameras through the whole platform and measure what it sustains.",
    "compare": "Race the face_recognition package on the same frames.",
}


class LazyBenches(TyperGroup):
    """Imports a benchmark only when it is used; ``--help`` shows all at once."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the benchmarks in the order of the pipeline."""
        return list(BENCHES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import ``cli.bench.<name>`` and return the command it registers."""
        if cmd_name not in BENCHES:
            return None
        single = typer.Typer(add_completion=False)
        importlib.import_module(f"cli.bench.{cmd_name}").register(single)
        command = typer.main.get_command(single)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the benchmarks without importing them."""
        with formatter.section("Benchmarks"):
            formatter.write_dl(list(BENCHES.items()))


app = typer.Typer(cls=LazyBenches, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def bench() -> None:
    """Measure speed on this machine."""
