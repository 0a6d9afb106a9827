"""``sightline bench compare``: the same frames through Sightline and through the face_recognition package, in one run on one core."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.bench.report import Figures, emit_report
from cli.output import JSON_OPTION, console

if TYPE_CHECKING:
    from core.settings import Settings
    from core.types import Image

INSTALL = 'pip install --no-deps face_recognition face_recognition_models && pip install dlib-bin "setuptools<81" click'
"""--no-deps: the package asks for dlib's source, which needs a compiler; dlib-bin is the same as a wheel. It imports pkg_resources,
which setuptools 81 dropped."""
TOLERANCE = 0.6
"""The package's default distance below which it names somebody."""
NAMING_FPIR = 0.01
SIZE_PX = (720, 1280)

Recognise = Callable[["Image"], list[str | None]]
"""A frame in; for each face found a name, or None."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(run)


def run(
    ctx: typer.Context,
    frames: Annotated[int, typer.Option(min=5, max=1000, help="Frames; both look at each, in turns.")] = 20,
    as_json: bool = JSON_OPTION,
) -> None:
    """Race the face_recognition package (HOG + dlib): detect, embed and match the same 720p frames on one core."""
    pin_to_one_core()
    from cli.bench.models import describe_settings

    settings: Settings = ctx.obj.settings()
    contender = load_face_recognition()
    with console().status("racing"):
        race = measure(open_sightline(settings), open_face_recognition(contender), frames=frames)
    chosen = {**describe_settings(settings), "face_recognition": f"{contender.__version__}, HOG, defaults", "frames": frames, "cores": 1}
    emit_report("compare", settings=chosen, figures=race.figures(), as_json=as_json)


def pin_to_one_core() -> None:
    """Keep this process and all threads that it starts to one core, so that neither side gains from threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def load_face_recognition() -> Any:
    """Import the package.

    Raises:
        UsageError: not installed, and how to install it.
    """
    from core.errors import UsageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources announces its end
            import face_recognition
    except (ImportError, SystemExit) as err:  # without its models it calls quit()
        raise UsageError(f"bench compare needs the face_recognition package: {INSTALL}") from err
    return face_recognition


def open_sightline(settings: "Settings") -> Recognise:
    """Return Sightline's way from a frame to names, over the built-in gallery. Raises ModelError."""
    import cv2
    import numpy as np

    from cli.bench.models import load_detector, load_embedder
    from cli.bench.scene import gallery
    from core.models.registry import Registry
    from embed.calibration import Calibration

    cv2.setNumThreads(1)
    registry = Registry.load(settings.data_dir)
    spec = registry.model(registry.model_set(settings.models.set).embedder)
    detector, embedder = load_detector(settings, threads=1), load_embedder(settings, threads=1)
    people = gallery()
    threshold = Calibration.of(spec).threshold(kind="single", fpir=NAMING_FPIR, gallery_size=len(people))
    chips = [embedder.chips(image, detector.detect([image])[0].landmarks[:1]) for image in people.values()]
    references = embedder.embed(np.concatenate(chips)).vectors
    names = list(people)

    def recognise(frame: "Image") -> list[str | None]:
        faces = detector.detect([frame])[0]
        scores = embedder.embed(embedder.chips(frame, faces.landmarks)).vectors @ references.T
        return [names[int(row.argmax())] if row.max() >= threshold else None for row in scores]

    return recognise


def open_face_recognition(package: Any) -> Recognise:
    """Return the package's way from a frame to names, as its examples show it, over the same gallery."""
    from cli.bench.scene import gallery

    people = gallery()
    references = [package.face_encodings(image)[0] for image in people.values()]
    names = list(people)

    def recognise(frame: "Image") -> list[str | None]:
        found: list[str | None] = []
        for encoding in package.face_encodings(frame, package.face_locations(frame)):
            distances = package.face_distance(references, encoding)
            found.append(names[int(distances.argmin())] if distances.min() <= TOLERANCE else None)
        return found

    return recognise


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Times of both sides on the same frames, and what they found."""

    ours_ms: list[float]
    theirs_ms: list[float]
    ours_named: int
    theirs_named: int
    ours_faces: int
    theirs_faces: int

    def figures(self) -> Figures:
        """Return the figures; ratios are of times on the same frame."""
        import numpy as np

        ratios = np.array(self.theirs_ms) / np.array(self.ours_ms)
        ours, theirs = float(np.median(self.ours_ms)), float(np.median(self.theirs_ms))
        return {
            "sightline_frames_per_second": (1e3 / ours, "1/s"),
            "face_recognition_frames_per_second": (1e3 / theirs, "1/s"),
            "speed_ratio": (theirs / ours, "x"),
            "speed_ratio_p10": (float(np.quantile(ratios, 0.1)), "x"),
            "speed_ratio_p90": (float(np.quantile(ratios, 0.9)), "x"),
            "sightline_per_frame_p50": (ours, "ms"),
            "sightline_per_frame_p95": (float(np.quantile(self.ours_ms, 0.95)), "ms"),
            "face_recognition_per_frame_p50": (theirs, "ms"),
            "face_recognition_per_frame_p95": (float(np.quantile(self.theirs_ms, 0.95)), "ms"),
            "sightline_faces": (float(self.ours_faces), "faces"),
            "face_recognition_faces": (float(self.theirs_faces), "faces"),
            "sightline_named": (float(self.ours_named), "faces"),
            "face_recognition_named": (float(self.theirs_named), "faces"),
        }


def measure(ours: Recognise, theirs: Recognise, *, frames: int) -> Race:
    """Let both look at each frame, in turns, after two frames that do not count."""
    from cli.bench.scene import frames as paint
    from cli.bench.timing import once_ms

    pictures = paint(*SIZE_PX, count=frames + 2)
    answers: dict[Recognise, list[list[str | None]]] = {ours: [], theirs: []}
    times: dict[Recognise, list[float]] = {ours: [], theirs: []}
    for i, picture in enumerate(pictures):
        for side in (ours, theirs) if i % 2 else (theirs, ours):
            times[side].append(once_ms(lambda side=side, picture=picture: answers[side].append(side(picture))))  # type: ignore[misc]
    found = {side: [name for answer in answers[side][2:] for name in answer] for side in answers}
    return Race(
        ours_ms=times[ours][2:],
        theirs_ms=times[theirs][2:],
        ours_named=sum(name is not None for name in found[ours]),
        theirs_named=sum(name is not None for name in found[theirs]),
        ours_faces=len(found[ours]),
        theirs_faces=len(found[theirs]),
    )
