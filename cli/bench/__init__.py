"""Benchmarks: each prints JSON with the hardware and compares in one run.

Each is a module ``cli/bench/<name>.py`` with ``register(app)``, which adds one command; it is imported only when used.
"""

import importlib

import typer

from cli.lazy import lazy_group

BENCHES: dict[str, str] = {
    "ingest": "Decode, gate and encode frames.",
    "detect": "Find faces in 720p and 1080p frames.",
    "embed": "Align, judge and embed faces.",
    "match": "Search a large gallery, beside FAISS as installed.",
    "matcher": "Memory, scaling and throughput of matchers, over RabbitMQ too.",
    "imports": "Bring references and photos in by jobs.",
    "log": "Publish and consume on Kafka: latency, throughput, CPU per record.",
    "broker": "Send messages over RabbitMQ.",
    "api": "Search through the HTTP API: embeddings, photos, the past; beside FAISS called directly.",
    "audit": "Keep requests in the audit, alone and under load, and verify the chain.",
    "fleet": "Run cameras through a fleet of processes on real servers: load, latency, soak.",
    "standalone": "Run cameras through the whole platform and measure what it sustains.",
    "compare": "Race the face_recognition package on the same frames.",
}


def _load(name: str) -> typer.Typer:
    single = typer.Typer(add_completion=False)
    importlib.import_module(f"cli.bench.{name}").register(single)
    return single


app = typer.Typer(cls=lazy_group(BENCHES, _load), no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def bench() -> None:
    """Measure speed on this machine."""
