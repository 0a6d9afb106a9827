"""``sightline bench audit``: what keeping a request in the audit costs, alone and under load, and how fast a chain is verified."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console, run_async

if TYPE_CHECKING:
    from core.audit.chain import Draft
    from core.audit.trail import AuditTrail
    from core.settings import Settings

AT_ONCE = 64  # requests under way: what the API's connections make of a busy minute


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(run)


def run(
    ctx: typer.Context,
    entries: Annotated[int, typer.Option(min=100, help="Entries under load; a tenth of them alone.")] = 10_000,
    as_json: bool = JSON_OPTION,
) -> None:
    """Keep entries, alone and many at once, and verify them. In a database of its own, which is thrown away."""
    settings: Settings = ctx.obj.settings()
    with console().status("keeping entries"):
        figures = run_async(measure(settings, entries=entries))
    emit_report("audit", settings={"entries": entries, "at_once": AT_ONCE}, figures=figures, as_json=as_json)


async def measure(settings: "Settings", *, entries: int) -> Figures:
    """Measure the audit over an embedded PostgreSQL; every entry is durable when its time ends."""
    import tempfile
    from importlib.resources import files
    from pathlib import Path

    from core.adapters.postgres import open_database
    from core.audit.chain import Draft
    from core.audit.store import AuditStore
    from core.audit.trail import AuditTrail
    from core.metrics import Metrics

    draft = Draft(actor="key:bench", action="subject.read", targets=("11111111-1111-4111-8111-111111111111",), outcome=200)
    alone_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        async with open_database("embedded:", data_dir=Path(folder), migrations=files("deploy") / "migrations") as db:
            trail = AuditTrail(AuditStore(db), Metrics())
            for _ in range(entries // 10):
                started_s = time.perf_counter()
                await trail.keep(draft)
                alone_ms.append(1000 * (time.perf_counter() - started_s))
            started_s = time.perf_counter()
            await asyncio.gather(*(_keep(trail, draft, entries // AT_ONCE) for _ in range(AT_ONCE)))
            kept_per_second = entries // AT_ONCE * AT_ONCE / (time.perf_counter() - started_s)
            started_s = time.perf_counter()
            verdict = await trail.store.verify()
            verified_per_second = verdict.entries / (time.perf_counter() - started_s)
    alone_ms.sort()
    return {
        "alone_p50_ms": (round(alone_ms[len(alone_ms) // 2], 2), "ms"),
        "alone_p95_ms": (round(alone_ms[len(alone_ms) * 95 // 100], 2), "ms"),
        "kept_per_second": (round(kept_per_second), "entries/s"),
        "verified_per_second": (round(verified_per_second), "entries/s"),
    }


async def _keep(trail: "AuditTrail", draft: "Draft", count: int) -> None:
    for _ in range(count):
        await trail.keep(draft)
