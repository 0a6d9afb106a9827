"""``sightline bench detect``: faces in 720p and 1080p frames, by batch size and by threads."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console

if TYPE_CHECKING:
    from core.settings import Settings

SIZES_PX = {"720p": (720, 1280), "1080p": (1080, 1920)}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("detect")(run)


def run(
    ctx: typer.Context,
    repeats: Annotated[int, typer.Option(min=5, help="Runs per figure; the median counts.")] = 40,
    as_json: bool = JSON_OPTION,
) -> None:
    """Find faces in 720p and 1080p frames: shrinking, model, decoding and suppression."""
    from cli.bench.models import describe_settings

    settings: Settings = ctx.obj.settings()
    with console().status("detecting"):
        figures = measure(settings, repeats=repeats)
    emit_report("detect", settings={**describe_settings(settings), "repeats": repeats}, figures=figures, as_json=as_json)


def measure(settings: "Settings", *, repeats: int) -> Figures:
    """Measure detection; one thread unless the figure's name says otherwise. OpenCV keeps to one thread throughout."""
    import cv2

    from cli.bench.models import load_detector, thread_counts
    from cli.bench.scene import frames
    from cli.bench.timing import median, timed_ms
    from detect.detector import BATCH_SIZES
    from detect.letterbox import fit, shrink

    cv2.setNumThreads(1)
    pictures = {name: frames(*size, count=max(BATCH_SIZES) if name == "720p" else 1) for name, size in SIZES_PX.items()}
    detector = load_detector(settings, threads=1)

    def figure(work: Callable[[], object], per: int = 1) -> tuple[float, str]:
        return median(timed_ms(work, repeats=max(5, repeats // per))) / per, "ms"

    figures: Figures = {
        "detect_per_frame": figure(partial(detector.detect, pictures["720p"][:1])),
        "detect_per_frame_1080p": figure(partial(detector.detect, pictures["1080p"][:1])),
        "faces_per_frame": (float(len(detector.detect(pictures["720p"][:1])[0])), "faces"),
    }
    for name, size in SIZES_PX.items():
        box = fit(*size, side_px=settings.models.detector_side_px)
        figures[f"shrink_per_frame_{name}"] = figure(partial(shrink, pictures[name][0], box.content_px))
    for batch in BATCH_SIZES[1:]:
        figures[f"detect_per_frame_batch{batch}"] = figure(partial(detector.detect, pictures["720p"][:batch]), batch)
    for threads in thread_counts()[1:]:
        detector = load_detector(settings, threads=threads)
        figures[f"detect_per_frame_{threads}_threads"] = figure(partial(detector.detect, pictures["720p"][:1]))
    return figures
