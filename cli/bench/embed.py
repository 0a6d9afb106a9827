"""``sightline bench embed``: align, judge and embed faces, by batch size and by threads."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console

if TYPE_CHECKING:
    from core.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("embed")(run)


def run(
    ctx: typer.Context,
    repeats: Annotated[int, typer.Option(min=5, help="Runs per figure; the median counts.")] = 100,
    as_json: bool = JSON_OPTION,
) -> None:
    """Align, judge and embed faces."""
    from cli.bench.models import describe_settings

    settings: Settings = ctx.obj.settings()
    with console().status("embedding"):
        figures = measure(settings, repeats=repeats)
    emit_report("embed", settings={**describe_settings(settings), "repeats": repeats}, figures=figures, as_json=as_json)


def measure(settings: "Settings", *, repeats: int) -> Figures:
    """Measure the way from a face to its embedding; one thread unless the figure's name says otherwise.

    Raises:
        ModelError: a model does not load, or finds no face in the built-in frame.
    """
    import cv2
    import numpy as np

    from cli.bench.models import load_detector, load_embedder, thread_counts
    from cli.bench.scene import frames
    from cli.bench.timing import median, timed_ms
    from core.errors import ModelError
    from embed.embedder import BATCH_SIZES
    from embed.quality import assess

    cv2.setNumThreads(1)
    picture = frames(720, 1280, count=1)[0]
    faces = load_detector(settings, threads=1).detect([picture])[0]
    if not len(faces):
        raise ModelError(f"models {settings.models.set}: the detector finds no face in the built-in frame")
    embedder = load_embedder(settings, threads=1)
    few = embedder.chips(picture, faces.landmarks)
    chips = np.resize(few, (max(BATCH_SIZES), *few.shape[1:]))

    def figure(work: Callable[[], object], per: int = 1) -> tuple[float, str]:
        return median(timed_ms(work, repeats=max(5, repeats // per))) / per, "ms"

    figures: Figures = {
        "embed_per_face": figure(partial(embedder.embed, chips[:1])),
        "align_per_face": figure(partial(embedder.chips, picture, faces.landmarks), len(faces)),
        "quality_per_face": figure(partial(assess, picture, faces), len(faces)),
    }
    for size in BATCH_SIZES[1:]:
        figures[f"embed_per_face_batch{size}"] = figure(partial(embedder.embed, chips[:size]), size)
    for threads in thread_counts()[1:]:
        embedder = load_embedder(settings, threads=threads)
        figures[f"embed_per_face_{threads}_threads"] = figure(partial(embedder.embed, chips[:1]))
        figures[f"embed_per_face_batch8_{threads}_threads"] = figure(partial(embedder.embed, chips[:8]), 8)
    return figures
