"""``sightline bench fleet``: what a fleet of processes on real servers sustains on this machine, and how late its answers are."""

import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console

if TYPE_CHECKING:
    from cli.services.rig import Load, Rig

STEPS = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128)
SHARE = 0.6
"""Of the highest sustained load: where latency is measured."""
WARM_UP_S = 6.0  # connections, first tracks; not measured
STEP_S = 15.0
DRAIN_S = 60.0
SOAK_SAMPLE_S = 20.0
Say = Callable[[str], None]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fleet")(fleet)


def fleet(
    cameras: Annotated[int, typer.Option(min=0, max=128, help="Measure with so many; 0 = 60 % of what a short ramp finds sustained.")] = 0,
    seconds: Annotated[float, typer.Option(min=5.0, max=3600.0, help="Measured time.")] = 60.0,
    soak: Annotated[float, typer.Option(min=0.0, max=1440.0, help="Go on for so many minutes: memory, reconnections and lag.")] = 0.0,
    as_json: bool = JSON_OPTION,
) -> None:
    """Start Kafka, RabbitMQ, PostgreSQL and every process of a fleet here, play simulated cameras, and measure.

    Sustained means: no frame dropped, decoding and recognizing keep up, and less than a second of frames waits.
    """
    from cli.services.rig import Rig

    def say(text: str) -> None:
        console().print(text, style="dim")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: what was started is stopped
    with tempfile.TemporaryDirectory(prefix="sightline-fleet-") as folder, Rig(Path(folder), most_cameras=cameras or STEPS[-1]) as rig:
        began_s = time.time()
        tried = [] if cameras else ramp(rig, say)
        best = max((load.cameras for load in tried if load.sustained), default=STEPS[0])
        count = cameras or max(1, round(SHARE * best))
        rig.set_cameras(count)
        rig.settle()
        load = steady(rig, count, seconds, say)
        soaked = soak_figures(rig, soak * 60, say) if soak else {}
        rig.set_cameras(0)
        account = rig.fleet.account(began_s, wait_s=DRAIN_S)
        figures = load_figures(load) | soaked
        figures |= {
            "frames_published": (account.total("published"), "frames"),
            "frames_accounted": (account.total("finished") + account.total("dead_lettered") + account.total("in_flight"), "frames"),
            "frames_lost": (account.total("lost"), "frames"),
            "highest_sustained_cameras": (best if not cameras else load.cameras, "cameras"),
        }
    emit_report("fleet", settings=_settings(load, tried, seconds), figures=figures, as_json=as_json)


def ramp(rig: "Rig", say: Say) -> "list[Load]":
    """Try more and more cameras until the load is not sustained; then, with that worked off, half-way between the last two."""
    tried: list[Load] = []
    for count in STEPS:
        tried.append(steady(rig, count, STEP_S, say))
        if not tried[-1].sustained:
            break
    if len(tried) > 1 and not tried[-1].sustained:
        between = (tried[-2].cameras + tried[-1].cameras) // 2
        rig.set_cameras(STEPS[0])
        rig.settle()
        tried.append(steady(rig, between, STEP_S, say))
    return tried


def steady(rig: "Rig", count: int, seconds: float, say: Say) -> "Load":
    """Measure with so many cameras, after a warm-up."""
    from cli.services.latency import percentile

    rig.set_cameras(count)
    time.sleep(WARM_UP_S)
    load = rig.measure(seconds)
    verdict = "sustained" if load.sustained else "not sustained"
    p50, p95 = (percentile(load.latencies_ms, percent) for percent in (50, 95))
    say(
        f"{count} cameras: {verdict}; capture to stored p50 {p50:.0f} ms, p95 {p95:.0f} ms of {len(load.samples)} decisions; "
        f"{load.dropped:.0f} dropped, lag {load.lag:.0f}, {sum(load.cpu_cores.values()):.2f} cores busy"
    )
    return load


def load_figures(load: "Load") -> Figures:
    """Return latency, rates, the table of stage times and who used the cores."""
    from cli.services.latency import STAGES, percentile

    stages = [sample.stages_ms() for sample in load.samples]
    figures: Figures = {
        **{f"latency_p{percent}": (round(percentile(load.latencies_ms, percent), 1), "ms") for percent in (50, 95, 99)},
        **{f"appearance_p{percent}": (round(percentile(load.appearances_ms, percent), 1), "ms") for percent in (50, 95)},
        "decisions": (len(load.samples), "decisions"),
        "cameras": (load.cameras, "cameras"),
        "frames_per_second": (round(load.decoded / load.seconds, 1), "1/s"),
        "gated_frames_per_second": (round(load.published / load.seconds, 1), "1/s"),
        "frames_dropped": (load.dropped, "frames"),
        "sustained": (float(load.sustained), "ratio"),
    }
    for stage in STAGES:
        of_stage = [times[stage] for times in stages]
        figures |= {f"stage_{stage}_p{percent}": (round(percentile(of_stage, percent), 1), "ms") for percent in (50, 95)}
    figures |= {f"cores_{kind.replace(' ', '_')}": (round(cores, 3), "cores") for kind, cores in load.cpu_cores.items()}
    return figures


def soak_figures(rig: "Rig", seconds: float, say: Say) -> Figures:
    """Go on under the same load and return how memory, reconnections and lag moved.

    The slope is fitted over the second half: caches and allocators fill up first.
    """
    import numpy as np

    memory: list[dict[str, int]] = []
    lags: list[float] = []
    times: list[float] = []
    reconnects = rig.reconnects()
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        time.sleep(min(SOAK_SAMPLE_S, max(0.1, seconds / 20)))
        times.append(time.monotonic())
        memory.append(rig.memory_bytes())
        lags.append(rig.lag())
        say(f"soak: {len(times)} samples, {sum(memory[-1].values()) / 2**20:.0f} MiB in {len(memory[-1])} processes, lag {lags[-1]:.0f}")
    half = len(times) // 2
    hours = np.array(times[half:]) / 3600
    figures: Figures = {"soak_minutes": (round(seconds / 60, 1), "minutes")}
    for name in memory[-1]:
        series = np.array([sample.get(name, 0) for sample in memory[half:]]) / 2**20
        slope = float(np.polyfit(hours, series, 1)[0]) if len(series) > 2 else 0.0
        key = name.replace("-", "_")
        figures[f"soak_rss_{key}"] = (round(float(series[-1]), 1), "MiB")
        figures[f"soak_rss_slope_{key}"] = (round(slope, 2), "MiB/h")
    figures["soak_reconnects"] = (rig.reconnects() - reconnects, "connections")
    figures["soak_lag_first_half"] = (round(float(np.mean(lags[:half] or [0.0])), 2), "frames")
    figures["soak_lag_second_half"] = (round(float(np.mean(lags[half:])), 2), "frames")
    return figures


def _settings(load: "Load", tried: "list[Load]", seconds: float) -> dict[str, Any]:
    from cli.services.latency import percentile
    from cli.services.rig import BENCH_SETTINGS
    from cli.services.scene import FPS, HEIGHT_PX, WIDTH_PX

    return {
        "seconds": seconds,
        "footage": f"scripted scene over RTSP, {WIDTH_PX}x{HEIGHT_PX} H.264 at {FPS} fps, looped, a visitor every 8 s",
        "processes": "1 ingest, 1 recognize, 2 match (2 shards), 1 sightings, beside Kafka, RabbitMQ, PostgreSQL and the cameras",
        "latency": "capture of the frame that decided, to who it is, read back from PostgreSQL by another process",
        "appearance": "likewise from the first frame of the face: one that the detector is unsure of is decided by a second frame",
        "environment": BENCH_SETTINGS,
        "tried": [
            {"cameras": one.cameras, "sustained": one.sustained, "p95_ms": round(percentile(one.latencies_ms, 95), 1)} for one in tried
        ],
        "share_of_highest_load": SHARE if tried else None,
    }
