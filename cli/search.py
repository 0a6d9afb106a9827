"""``sightline search``: the enrolled people nearest to each face of a photo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cli.output import JSON_OPTION, console, emit, run_async
from core.settings import Settings

if TYPE_CHECKING:
    from embed.calibration import Calibration
    from recognize.still import FaceAnswer

app = typer.Typer()


@app.command()
def search(
    ctx: typer.Context,
    photos: Annotated[list[Path], typer.Argument(help="Photos.")],
    as_json: bool = JSON_OPTION,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many candidates per face.")] = 5,
    collection: Annotated[str | None, typer.Option(help="The gallery to search (default: the one that is recognized).")] = None,
) -> None:
    """List the enrolled people nearest to each face of a photo, whether they match or not."""
    settings: Settings = ctx.obj.settings()
    run_async(_search(settings, photos, k=k, collection=collection or settings.recognize.collection, as_json=as_json))


async def _search(settings: Settings, photos: list[Path], *, k: int, collection: str, as_json: bool) -> None:
    from cli.audit_chain import keep_command
    from cli.compose import open_gallery
    from core.photo import read_photo

    images = [(path.name, read_photo(path)) for path in photos[:1]]  # the usual mistake, a wrong path, shows before the models load
    async with open_gallery(settings) as gallery:
        references = (await gallery.store.counts(collection)).references
        await keep_command(gallery.db, "search.photo", photos=len(photos), k=k, collection=collection)
        for path in photos:
            source, image = images.pop() if images else (path.name, read_photo(path))
            answers = await gallery.still.recognize(image, collection=collection, k=k)
            lines = [face_line(source, number, answer, gallery.calibration, references) for number, answer in enumerate(answers)]
            for line in lines:
                if as_json:
                    emit(line)
            if not as_json:
                _show(source, lines)


def face_line(source: str, number: int, answer: "FaceAnswer", calibration: "Calibration", references: int) -> dict[str, Any]:
    """Return one face as JSON: box in pixels of the photo; fpir is the chance that a stranger scores this high in this gallery."""
    candidates = [
        {
            "subject_id": candidate.subject_id,
            "subject": candidate.subject,
            "reference_id": candidate.reference_id,
            "score": round(candidate.score, 4),
            "rank": candidate.rank,
            "match": candidate.score >= answer.threshold,
            "fpir": float(f"{calibration.fpir(candidate.score, kind='single', gallery_size=references):.3g}"),
        }
        for candidate in answer.candidates
    ]
    return {
        "source": source,
        "face": number,
        "box": [round(value, 1) for value in answer.box],
        "detector_score": round(answer.detector_score, 4),
        "quality": round(answer.quality.value, 4),
        "reasons": list(answer.quality.reasons),
        "threshold": round(answer.threshold, 4),
        "candidates": candidates,
    }


def _show(source: str, lines: list[dict[str, Any]]) -> None:
    out = console()
    if not lines:
        out.print(f"{source}: no face found", markup=False)
    for line in lines:
        where = ", ".join(f"{value:.0f}" for value in line["box"])
        title = f"{source}, face {line['face']} at {where}, quality {line['quality']:.2f}, a match from {line['threshold']:.3f}"
        table = Table("rank", "subject", "score", "match", "a stranger scores this", title=title.replace("[", r"\["), title_justify="left")
        for candidate in line["candidates"]:
            name = "".join(c if c.isprintable() else "?" for c in candidate["subject"]).replace("[", r"\[")
            chance = f"1 in {1 / candidate['fpir']:.0f}" if candidate["fpir"] > 0 else "never"
            table.add_row(str(candidate["rank"]), name, f"{candidate['score']:.3f}", "yes" if candidate["match"] else "no", chance)
        out.print(table)
