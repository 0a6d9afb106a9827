"""``sightline evaluate``: accuracy on your own labelled photos, and calibration of a model."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.output import JSON_OPTION, console, emit
from core.errors import UsageError
from core.settings import Settings

if TYPE_CHECKING:
    from cli.evaluation.faces import FaceReader, FaceSet
    from core.models.spec import ModelSpec
    from enrollment.record import Photo

DEFAULT_PLOT = Path("det.png")
SEED = 19795
"""Of the random draws of a calibration, so that it comes out the same again."""
MARKED_FAR = 1e-3
"""Its calibrated score is shown in the plot of a verification."""
FOLDER = "folder per subject, or flat NAME.jpg files"

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    gallery: Path | None
    probes: Path | None
    strangers: Path | None
    pairs: Path | None
    images: Path | None
    calibrate: Path | None

    def task(self) -> str:
        """Return identification, verification or calibration.

        Raises:
            UsageError: options that do not go together.
        """
        if self.calibrate is not None:
            return self._only("calibration", ("probes",), ("gallery", "strangers", "pairs", "images"))
        if self.pairs is not None:
            return self._only("verification", ("images",), ("gallery", "probes", "strangers"))
        return self._only("identification", ("gallery", "probes"), ("images",))

    def _only(self, task: str, needed: tuple[str, ...], unwanted: tuple[str, ...]) -> str:
        missing = [f"--{name}" for name in needed if getattr(self, name) is None]
        extra = [f"--{name}" for name in unwanted if getattr(self, name) is not None]
        if missing and not any(getattr(self, name) for name in ("gallery", "probes", "pairs", "calibrate")):
            raise UsageError(
                "evaluate: give --gallery DIR --probes DIR, or --pairs CSV --images DIR, or --calibrate FILE.toml --probes DIR"
            )
        if missing or extra:
            problems = [f"needs {' and '.join(missing)}"] * bool(missing) + [f"takes no {' and no '.join(extra)}"] * bool(extra)
            raise UsageError(f"evaluate: {task} {' and '.join(problems)}")
        return task


@app.command()
def evaluate(
    ctx: typer.Context,
    gallery: Annotated[Path | None, typer.Option(help=f"Photos to enrol: {FOLDER}.")] = None,
    probes: Annotated[Path | None, typer.Option(help=f"Photos to recognize: {FOLDER}.")] = None,
    strangers: Annotated[Path | None, typer.Option(help="Photos of people who are not enrolled; without, leave-one-out.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV of pairs: file_x, file_y, Decision (Yes or No).")] = None,
    images: Annotated[Path | None, typer.Option(help="Where the photos of --pairs are.")] = None,
    calibrate: Annotated[Path | None, typer.Option(help="Write calibration tables made from --probes to this TOML file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a DET plot (default without --json: det.png).")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure accuracy on your own photos: identification, verification, or calibration of the model in use."""
    settings: Settings = ctx.obj.settings()
    request = Request(gallery=gallery, probes=probes, strangers=strangers, pairs=pairs, images=images, calibrate=calibrate)
    task = request.task()
    if task == "calibration" and plot is not None:
        raise UsageError("evaluate: calibration takes no --plot")
    plot = plot if as_json or plot is not None or task == "calibration" else DEFAULT_PLOT
    if plot is not None:
        from cli.evaluation.plot import check_plot_path

        check_plot_path(plot)
    report = {"identification": _identify, "verification": _verify, "calibration": _calibrate}[task](settings, request, plot)
    if as_json:
        emit(report)
        return
    from cli.evaluation.tables import show

    show(console(), task, report, plot)


def _identify(settings: Settings, request: Request, plot: Path | None) -> dict[str, Any]:
    from cli.evaluation.identification import identification_report, run_trials
    from embed.calibration import Calibration

    gallery_photos, probe_photos = _photos(request.gallery), _photos(request.probes)
    stranger_photos = _photos(request.strangers) if request.strangers is not None else None
    with _reader(settings, len(gallery_photos) + len(probe_photos) + len(stranger_photos or ())) as (reader, spec):
        calibration = Calibration.of(spec)
        gallery, probes = reader.read(gallery_photos), reader.read(probe_photos)
        strangers = None if stranger_photos is None else reader.read(stranger_photos)
    for name, faces in (("gallery", gallery), ("probes", probes)):
        if not len(faces):
            raise UsageError(f"--{name}: no face was found in {faces.photos} photos")
    if not set(probes.subjects) & set(gallery.subjects):
        raise UsageError("--probes: none of its subjects is in --gallery; folders (or file names) must have the same names in both")
    begin_s = time.perf_counter()
    trials = run_trials(gallery, probes, strangers)
    reader.stopwatch.add("match", time.perf_counter() - begin_s, len(probes) + len(strangers or ()))
    figures = identification_report(trials, calibration=calibration, target_fpir=settings.recognize.target_fpir, references=len(gallery))
    if plot is not None:
        from cli.evaluation.plot import DetPlot, draw_det

        det = DetPlot(
            title=f"Identification, {spec.name}, {len(gallery)} references",
            false_accept_name="FPIR: strangers named",
            false_reject_name="FNIR: enrolled people missed",
            curve=trials.curve(),
            impostors=len(trials.strangers),
            genuine=len(trials.top),
            marked=figures["thresholds"]["in_use"],
            marked_name="threshold in use",
        )
        draw_det(det, plot)
    sets = {"gallery": gallery, "probes": probes} | ({} if strangers is None else {"strangers": strangers})
    return {
        "model": spec.name,
        "detector": reader.detector.name,
        "enrolled": len(gallery),
        "enrolled_subjects": len(set(gallery.subjects)),
        "probes": probes.photos,
        "mated_probes": len(trials.top),
        **_failures(sets),
        **figures,
        "time_ms": reader.stopwatch.mean_ms(),
    }


def _verify(settings: Settings, request: Request, plot: Path | None) -> dict[str, Any]:
    from cli.evaluation.verification import compare, photos_of, read_pairs, verification_report
    from embed.calibration import Calibration

    if request.pairs is None or request.images is None:
        raise UsageError("evaluate: verification needs --pairs and --images")
    pairs = read_pairs(request.pairs)
    photos = photos_of(pairs, request.images)
    with _reader(settings, len(photos)) as (reader, spec):
        calibration = Calibration.of(spec)
        faces = reader.read(photos)
    begin_s = time.perf_counter()
    comparisons = compare(pairs, faces)
    reader.stopwatch.add("match", time.perf_counter() - begin_s, len(pairs))
    if plot is not None:
        from cli.evaluation.plot import DetPlot, draw_det

        det = DetPlot(
            title=f"Verification, {spec.name}",
            false_accept_name="FAR: two people taken for one",
            false_reject_name="FRR: one person taken for two",
            curve=comparisons.curve(),
            impostors=len(comparisons.impostor),
            genuine=len(comparisons.genuine),
            marked=calibration.score_at(MARKED_FAR, kind="single"),
            marked_name=f"calibrated for FAR {MARKED_FAR:.1%}:",
        )
        draw_det(det, plot)
    return {
        "model": spec.name,
        "detector": reader.detector.name,
        "photos": faces.photos,
        **_failures({"images": faces}),
        **verification_report(comparisons, calibration=calibration),
        "time_ms": reader.stopwatch.mean_ms(),
    }


def _calibrate(settings: Settings, request: Request, plot: Path | None) -> dict[str, Any]:
    import numpy as np

    from cli.evaluation.calibrating import impostors, make_table, table_report, toml_of

    if request.calibrate is None:
        raise UsageError("evaluate: calibration needs --calibrate FILE.toml")
    photos = _photos(request.probes)
    with _reader(settings, len(photos)) as (reader, spec):
        faces = reader.read(photos)
    rng = np.random.default_rng(SEED)
    source = f"{len(faces)} photos of {len(set(faces.subjects))} people, every face against every other person's"
    tables = [make_table(impostors(faces, kind, rng), source=source, rng=rng) for kind in ("single", "track")]
    try:
        request.calibrate.write_text(f"# calibration of {spec.name}\n\n{toml_of(tables)}", encoding="utf-8")
    except OSError as err:
        raise UsageError(f"--calibrate {request.calibrate}: can't be written: {err.strerror}") from err
    return {
        "model": spec.name,
        "detector": reader.detector.name,
        "probes": faces.photos,
        "subjects": len(set(faces.subjects)),
        **_failures({"probes": faces}),
        "tables": [table_report(table) for table in tables],
        "written": str(request.calibrate),
    }


def _photos(path: Path | None) -> "list[Photo]":
    """List the photos of a folder.

    Raises:
        UsageError: there are none.
    """
    from enrollment.imports import Naming, list_photos

    if path is None:
        raise UsageError("evaluate: a folder of photos is missing")
    photos = list_photos(path, Naming(numbered=True))
    if not photos:
        raise UsageError(f"{path}: has no photos; give a {FOLDER}")
    return photos


@contextmanager
def _reader(settings: Settings, photos: int) -> "Iterator[tuple[FaceReader, ModelSpec]]":
    """Load the models, and show progress on stderr while photos are read."""
    from cli.evaluation.faces import FaceReader
    from core.adapters.ort import OrtSession
    from core.models.registry import Registry
    from detect.detector import open_detector
    from embed.embedder import Embedder

    registry = Registry.load(settings.data_dir)
    chosen = registry.model_set(settings.models.set)
    specs = registry.model(chosen.detector), registry.model(chosen.embedder)
    detecting, embedding = (OrtSession(registry.path(s), provider=settings.models.provider, threads=settings.models.threads) for s in specs)
    detector = open_detector(specs[0], detecting, side_px=settings.models.detector_side_px)
    with _progress(photos) as advance:
        yield FaceReader(detector, Embedder(specs[1], embedding), advance=advance), specs[1]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    out = console()
    columns = (TextColumn("reading photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def _failures(sets: "dict[str, FaceSet]") -> dict[str, Any]:
    listed = [{"set": name, "file": f.file, "reason": f.reason} for name, faces in sets.items() for f in faces.failures]
    return {"failures_to_acquire": len(listed), "failures": listed}
