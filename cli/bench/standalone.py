"""``sightline bench standalone``: how many cameras the whole platform sustains in one process, and how late its answers are."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console, run_async
from core.settings import Settings

if TYPE_CHECKING:
    from cli.platform import Platform

WARM_UP_S = 4.0  # connections, first inferences and first tracks; not measured
LATENCY_GOAL_MS = 200.0
KEEPS_UP = 0.97  # share of the footage's frames that must be decoded in time: the rest is the last loop's seam
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one number of cameras did to the platform."""

    cameras: int
    latencies_ms: Sequence[float]
    """Capture to acknowledged sightings, one a gated frame."""
    seconds: float
    decoded_per_s: float
    expected_per_s: float
    published: int
    finished: int
    dead: int
    dropped: int
    cpu_cores: float

    def percentile(self, percent: float) -> float:
        """Return a latency percentile, ms."""
        return float(np.percentile(self.latencies_ms, percent)) if len(self.latencies_ms) else float("inf")

    @property
    def sustained(self) -> bool:
        """Whether nothing was dropped, decoding kept up, and answers came in time."""
        return self.dropped == 0 and self.decoded_per_s >= KEEPS_UP * self.expected_per_s and self.percentile(95) < LATENCY_GOAL_MS


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("standalone")(standalone)


def standalone(
    ctx: typer.Context,
    cameras: Annotated[int, typer.Option(min=0, max=256, help="Measure just this many; 0 = raise until no longer sustained.")] = 0,
    seconds: Annotated[float, typer.Option(min=2.0, max=3600.0, help="Measured time of each step.")] = 12.0,
    as_json: bool = JSON_OPTION,
) -> None:
    """Play footage in real time through decoding, gate, log, models, gallery and PostgreSQL, and raise the number of cameras.

    Sustained means: no frame dropped, decoding keeps up, and 95 % of gated frames are answered within 200 ms of their capture.
    """
    settings: Settings = ctx.obj.settings()
    steps = (cameras,) if cameras else STEPS
    best, tried = run_async(_ramp(settings, steps, seconds, lambda text: console().print(text, style="dim")))
    emit_report(
        "standalone",
        settings={
            "seconds_per_step": seconds,
            "footage": "demo, 1280x720 H.264 at 10 fps, looped, somebody in view nearly always",
            "model_set": settings.models.set,
            "tried": [{"cameras": load.cameras, "sustained": load.sustained, "p95_ms": round(load.percentile(95), 1)} for load in tried],
        },
        figures=_figures(best),
        as_json=as_json,
    )


def _figures(load: Load) -> Figures:
    return {
        "cameras": (load.cameras, "cameras"),
        "frames_per_second": (round(load.decoded_per_s, 1), "1/s"),
        "gated_frames_per_second": (round(len(load.latencies_ms) / load.seconds, 1), "1/s"),
        "latency_p50": (round(load.percentile(50), 1), "ms"),
        "latency_p95": (round(load.percentile(95), 1), "ms"),
        "latency_p99": (round(load.percentile(99), 1), "ms"),
        "frames_published": (load.published, "frames"),
        "frames_accounted": (load.finished + load.dead, "frames"),
        "frames_dropped": (load.dropped, "frames"),
        "cpu_cores": (round(load.cpu_cores, 2), "cores"),
        "sustained": (float(load.sustained), "ratio"),
    }


async def _ramp(settings: Settings, steps: Sequence[int], seconds: float, say: Callable[[str], None]) -> tuple[Load, list[Load]]:
    """Try more and more cameras; return the last sustained load (or the first tried) and all."""
    from cli.demo.footage import ensure_footage
    from cli.demo.script import CAMERAS, DURATION_S

    tried: list[Load] = []
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        clips = await asyncio.to_thread(ensure_footage, Path(folder) / "footage", CAMERAS, duration_s=DURATION_S)
        for count in steps:
            data_dir = Path(folder) / f"data-{count}"
            here = settings.model_copy(update={"data_dir": data_dir, "api": settings.api.model_copy(update={"port": 0})})
            load = await _measure(here, list(clips.values()), count, seconds)
            tried.append(load)
            verdict = "sustained" if load.sustained else "not sustained"
            say(f"{count} cameras: {verdict}, p95 {load.percentile(95):.0f} ms, {load.dropped} dropped, {load.cpu_cores:.1f} cores busy")
            if not load.sustained:
                break
    return next((load for load in reversed(tried) if load.sustained), tried[0]), tried


async def _measure(settings: Settings, clips: Sequence[Path], count: int, seconds: float) -> Load:
    """Run a platform with so many cameras and measure after the warm-up."""
    from cli.demo.play import enrol_known
    from cli.platform import open_platform
    from ingest.cameras import CameraSpec

    latencies: list[tuple[float, float]] = []

    def note(shown: Any, now_s: float) -> None:
        latencies.append((now_s, (now_s - shown.frame.captured_s) * 1e3))

    async with open_platform(settings, on_finished=note) as platform:
        await enrol_known(platform.gallery.enroller)
        for index in range(count):
            await platform.cameras.add(CameraSpec(name=f"cam-{index}", url=str(clips[index % len(clips)]), loop=True))
        stop = asyncio.Event()
        running = asyncio.create_task(platform.run(stop), name="platform")
        before, after = await _watch(platform, seconds)
        stop.set()
        await running
        within = [ms for at_s, ms in latencies if before.at_s <= at_s <= after.at_s]
        total = _Count.of(platform)
    elapsed_s = after.at_s - before.at_s
    return Load(
        cameras=count,
        latencies_ms=within,
        seconds=elapsed_s,
        decoded_per_s=(after.decoded - before.decoded) / elapsed_s,
        expected_per_s=count * 10.0,
        published=total.published,
        finished=total.finished,
        dead=total.dead,
        dropped=after.dropped,
        cpu_cores=(after.cpu_s - before.cpu_s) / elapsed_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count:
    """The counters at one moment, summed over cameras."""

    at_s: float
    cpu_s: float
    decoded: int
    published: int
    finished: int
    dead: int
    dropped: int

    @staticmethod
    def of(platform: "Platform") -> "_Count":
        metrics = platform.gallery.metrics

        def total(counter: Any) -> int:
            return int(sum(s.value for family in counter.collect() for s in family.samples if s.name.endswith("_total")))

        return _Count(
            at_s=time.time(),
            cpu_s=time.process_time(),
            decoded=total(metrics.frames_decoded),
            published=total(metrics.frames_published),
            finished=total(metrics.frames_finished),
            dead=total(metrics.frames_dead),
            dropped=total(metrics.frames_dropped),
        )


async def _watch(platform: "Platform", seconds: float) -> tuple[_Count, _Count]:
    await asyncio.sleep(WARM_UP_S)
    before = _Count.of(platform)
    await asyncio.sleep(seconds)
    return before, _Count.of(platform)
