"""``sightline identify``: who is in pictures and recorded video, faster than real time, one line per sighting."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import NotFoundError, SightlineError, UnreadableMediaError, UsageError
from core.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar
    from rich.progress import TaskID

    from cli.compose import Gallery
    from core.schema import Sighting
    from core.types import Image
    from recognize.recognizer import Shown, Told

app = typer.Typer(help="Say who is in pictures or recorded video.")

DEFAULT_EVERY_S = 0.1  # ten looks a second: a face that turns to the camera for a moment is seen, at a third of the work of 30 fps
PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM", b"II*\x00", b"MM\x00*", b"P2", b"P3", b"P5", b"P6")
"""First bytes of JPEG, PNG, BMP, TIFF and PGM/PPM; WebP has RIFF....WEBP. GIF is not among them: an animated one is a video."""

PICTURE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".pgm", ".ppm", ".pnm", ".tif", ".tiff"])

Line = dict[str, Any]
Progress = Callable[[float], None]


@app.command()
def identify(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Pictures or recorded video (any format FFmpeg reads).", show_default=False)],
    every: Annotated[
        float, typer.Option("--every", min=0.0, metavar="S", help="Seconds between looked-at frames; 0 = every frame.")
    ] = DEFAULT_EVERY_S,
    collection: Annotated[str | None, typer.Option(help="Gallery to compare with.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Say who is in pictures or recorded video.

    With --json a line per sighting: source, sighting_id, subject, name, score, threshold, first_s, last_s, best_s, box, faces, path. Times
    count from the first frame, boxes are pixels of the source. A stranger has subject null; so has a face too poor to tell, with a reason.
    """
    settings: Settings = ctx.obj.settings()
    if collection is not None:
        settings = settings.model_copy(update={"recognize": settings.recognize.model_copy(update={"collection": collection})})
    failed = run_async(_identify(files, settings, every_s=every, as_json=as_json))
    if failed:
        raise typer.Exit(failed)


async def _identify(files: list[Path], settings: Settings, *, every_s: float, as_json: bool) -> int:
    """Identify in each file in turn; an unreadable one is reported and the others go on. Return the exit code."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from cli.audit_chain import keep_command
    from cli.compose import open_gallery

    exit_code = 0
    async with open_gallery(settings) as gallery:
        names = await gallery.display_names()
        await keep_command(gallery.db, "recognize.files", files=len(files), collection=settings.recognize.collection)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
        rows: list[Line] = []
        with Progress(*columns, console=console(), transient=True) as bar:
            for file in files:
                task = bar.add_task(file.name, total=1.0)
                try:
                    async for line in _look_at(file, gallery, every_s=every_s, tell=partial(_update, bar, task)):
                        line["name"] = names.get(line["subject"], line["subject"])
                        emit(line) if as_json else rows.append(line)
                except SightlineError as err:
                    exit_code = err.exit_code
                    emit({"source": file.name, "error": {"code": err.code, "message": str(err)}}) if as_json else None
                    console().print(f"sightline: {err}", style="red", markup=False, soft_wrap=True)
                bar.update(task, completed=1.0)
        if not as_json:
            _show(rows)
    return exit_code


def _update(bar: "ProgressBar", task: "TaskID", share: float) -> None:
    bar.update(task, completed=share)


def _look_at(file: Path, gallery: "Gallery", *, every_s: float, tell: Progress) -> AsyncIterator[Line]:
    """Choose by content: what opens as a picture is one; everything else goes to the video decoder."""
    if not file.exists():
        raise NotFoundError(f"{file}: no such file")
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; give its files, for example {file}/*")
    if _is_picture(file):
        return _picture(file, gallery)
    return _video(file, gallery, every_s=every_s, tell=tell)


def _is_picture(file: Path) -> bool:
    """Return whether a file begins like a picture, or is called one and is too damaged to tell."""
    try:
        with file.open("rb") as opened:
            start = opened.read(16)
    except OSError as err:
        raise UnreadableMediaError(f"{file}: can't be read: {err.strerror}") from err
    video = b"ftyp" in start or start[:4] in (b"\x1aE\xdf\xa3", b"GIF8") or start[8:12] == b"AVI "
    return start.startswith(PICTURE_STARTS) or start[8:12] == b"WEBP" or (not video and file.suffix.lower() in PICTURE_SUFFIXES)


async def _picture(file: Path, gallery: "Gallery") -> AsyncIterator[Line]:
    """Yield a line per face of a picture."""
    from core.photo import read_photo
    from core.schema import sighting_id_of

    image = await asyncio.to_thread(read_photo, file)
    for index, face in enumerate(await gallery.still.recognize(image)):
        decision, box = face.decision, [round(v, 1) for v in face.box]
        named = decision.outcome == "subject" and decision.best is not None
        yield {
            "source": file.name,
            "sighting_id": sighting_id_of(f"{file.name}/still/0#{index}"),
            "subject": decision.best.subject if named and decision.best else None,
            "name": None,
            "outcome": decision.outcome,
            "reason": decision.reason or None,
            "score": None if decision.best is None else round(decision.best.score, 4),
            "threshold": round(decision.threshold, 4),
            "quality": round(face.quality.value, 3),
            "first_s": 0.0,
            "last_s": 0.0,
            "best_s": 0.0,
            "box": box,
            "faces": 1,
            "path": [[0.0, *box]],
        }


async def _video(file: Path, gallery: "Gallery", *, every_s: float, tell: Progress) -> AsyncIterator[Line]:
    """Yield a line per track, when it ends. A clip that breaks in the middle still tells what was seen before."""
    from ingest.video import read_video

    recognizer = gallery.recognizer()
    broken: SightlineError | None = None
    with read_video(file, every_s=every_s or None) as video:
        shots = iter(video)
        try:
            while (shot := await asyncio.to_thread(next, shots, None)) is not None:
                for line in _closed(file, await recognizer.process([_shown(file, *shot)])):
                    yield line
                if video.duration_s:
                    tell(min(1.0, shot[0] / video.duration_s))
        except UnreadableMediaError as err:
            broken = err
    for line in _closed(file, recognizer.finish()):
        yield line
    if broken is not None:
        raise broken


def _shown(file: Path, t_s: float, image: "Image") -> "Shown":
    from core.types import Frame
    from recognize.recognizer import Shown

    frame = Frame(frame_id=f"{file.name}/video/{t_s:.6f}", camera=file.name, captured_s=t_s, image=image)
    return Shown(frame=frame, region="file", published_s=t_s)


def _closed(file: Path, told: "list[Told]") -> list[Line]:
    """Return a line for each sighting that has ended."""
    return [_line(file.name, sighting) for sighting, _ in told if sighting.closed]


def _line(source: str, sighting: "Sighting") -> Line:
    return {
        "source": source,
        "sighting_id": sighting.sighting_id,
        "subject": sighting.subject,
        "name": None,
        "outcome": sighting.outcome,
        "reason": sighting.reason or None,
        "score": None if sighting.score is None else round(sighting.score, 4),
        "threshold": round(sighting.threshold, 4),
        "quality": round(sighting.quality, 3),
        "first_s": round(sighting.first_s, 3),
        "last_s": round(sighting.last_s, 3),
        "best_s": round(sighting.best_s, 3),
        "box": [round(v, 1) for v in sighting.best_box],
        "faces": sighting.faces,
        "path": [[round(p.t_s, 3), *(round(v, 1) for v in (p.x1, p.y1, p.x2, p.y2))] for p in sighting.path],
    }


def _show(rows: list[Line]) -> None:
    """Print the table for people."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        Console().print("No face seen.", style="yellow")
        return
    table = Table()
    for title in ("source", "from", "to", "who", "score", "threshold", "faces", "why not named"):
        table.add_column(title, justify="right" if title in {"from", "to", "score", "threshold", "faces"} else "left")
    for row in rows:
        who = {"subject": f"[bold green]{row['name']}[/]", "stranger": "unknown"}.get(row["outcome"], "[dim]too poor to tell[/]")
        score = "-" if row["score"] is None else f"{row['score']:.2f}"
        times = (f"{row['first_s']:.1f} s", f"{row['last_s']:.1f} s")
        table.add_row(
            row["source"], *times, who, score, f"{row['threshold']:.2f}", str(row["faces"]), (row["reason"] or "").replace("_", " ")
        )
    Console().print(table)
