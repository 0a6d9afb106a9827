"""``sightline capacity``: how many cores, GPUs, partitions, shards and bytes a fleet needs, from measured costs."""

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from cli.capacity.model import Coefficients, Fleet, Plan, plan, read_coefficients, warnings
from cli.output import JSON_OPTION, emit
from core.errors import NotFoundError, UsageError

USUAL = Fleet(cameras=1, references=0)

app = typer.Typer(help="Plan a fleet: cores, GPUs, partitions, shards, memory, bandwidth.")


@app.command()
def capacity(
    cameras: Annotated[int, typer.Option(min=1, help="Cameras.")],
    gallery: Annotated[int, typer.Option(min=0, help="References in the gallery: about three a person.")],
    fps: Annotated[float, typer.Option(min=0.1, help="Frames per second of a camera.")] = USUAL.fps,
    megapixels: Annotated[float, typer.Option(min=0.01, help="Size of a camera's picture.")] = USUAL.megapixels,
    busy: Annotated[float, typer.Option(min=0, max=1, help="Share of the time in which something moves.")] = USUAL.busy_share,
    gated_fps: Annotated[float, typer.Option(min=0, help="Frames per second that pass the gate meanwhile.")] = USUAL.gated_fps,
    faces: Annotated[float, typer.Option(min=0, help="Faces in a gated frame, on average.")] = USUAL.faces_per_frame,
    visits: Annotated[float, typer.Option(min=0, help="People who pass a camera in an hour.")] = USUAL.visits_per_camera_hour,
    retention_days: Annotated[float, typer.Option(min=0, help="How long sightings are kept.")] = USUAL.retention_days,
    replicas: Annotated[int, typer.Option(min=1, help="Matchers of each shard.")] = USUAL.replicas,
    shard_gib: Annotated[float, typer.Option(min=0.1, help="Memory that one matcher may use.")] = USUAL.shard_gib,
    utilisation: Annotated[float, typer.Option(min=0.05, max=1, help="Share of a core that is planned.")] = USUAL.utilisation,
    gpu_fps: Annotated[
        float | None, typer.Option(min=0.1, help="Frames/s one of your GPUs detects and embeds; default: CPUs only.")
    ] = None,
    coefficients: Annotated[Path | None, typer.Option(help="Your own measured costs, a TOML file like the one that ships.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Work out what a fleet needs, from costs that were measured; says which and where."""
    cost = _coefficients(coefficients)
    fleet = Fleet(
        cameras=cameras,
        references=gallery,
        fps=fps,
        megapixels=megapixels,
        busy_share=busy,
        gated_fps=gated_fps,
        faces_per_frame=faces,
        visits_per_camera_hour=visits,
        retention_days=retention_days,
        replicas=replicas,
        shard_gib=shard_gib,
        utilisation=utilisation,
        gpu_frames_per_s=gpu_fps,
    )
    try:
        result = plan(fleet, cost)
    except ValueError as err:
        raise UsageError(f"capacity: {err}") from err
    said = warnings(fleet, result)
    if as_json:
        costs = {name: {"value": value, "source": cost.sources[name]} for name, value in cost.values.items()}
        coefficients_used = {"hardware": cost.hardware, "measured": cost.measured, "costs": costs}
        emit(
            {"fleet": asdict(fleet), "plan": {**asdict(result), "cores": result.cores}, "warnings": said, "coefficients": coefficients_used}
        )
        return
    _print(fleet, result, cost, said)


def _coefficients(path: Path | None) -> Coefficients:
    if path is None:
        return read_coefficients(files("cli.capacity").joinpath("coefficients.toml").read_text(), name="coefficients.toml")
    try:
        return read_coefficients(path.read_text(), name=str(path))
    except (OSError, UnicodeDecodeError) as err:
        raise NotFoundError(f"{path}: can't be read as text; copy cli/capacity/coefficients.toml and put your figures in") from err


def _print(fleet: Fleet, result: Plan, cost: Coefficients, said: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{fleet.cameras:,} cameras, {fleet.references:,} references", title_justify="left", caption_justify="left")
    table.add_column("part")
    table.add_column("work", justify="right")
    table.add_column("needs", justify="right")
    for row in _rows(fleet, result):
        table.add_row(*row)
    out = Console(highlight=False)
    out.print(table)
    out.print(f"Cores are those of: {cost.hardware} ({cost.measured}), {fleet.utilisation:.0%} busy.")
    if fleet.gpu_frames_per_s is None:
        out.print("No GPU planned: measure yours with 'sightline bench detect' and pass --gpu-fps.")
    for sentence in said:
        out.print(f"[yellow]{sentence}[/]")


def _rows(fleet: Fleet, result: Plan) -> list[tuple[str, str, str]]:
    recognize = f"{result.recognize_cores:,.1f} cores, {result.recognize_gib:,.0f} GiB"
    if result.gpus:
        recognize = f"{result.gpus:,} GPUs, {recognize}"
    return [
        ("ingest", f"{result.decoded_frames_per_s:,.0f} frames/s decoded", f"{result.ingest_cores:,.1f} cores"),
        ("", f"{result.camera_gbit_per_s:,.2f} Gbit/s from cameras", ""),
        ("Kafka", f"{result.gated_frames_per_s:,.1f} frames/s, {result.kafka_gbit_per_s:,.2f} Gbit/s", f"{result.partitions:,} partitions"),
        ("recognize", f"{result.faces_per_s:,.1f} faces/s", recognize),
        ("RabbitMQ", f"{result.probes_per_s:,.1f} probes/s to {result.shards} shards", f"{result.broker_mbit_per_s:,.2f} Mbit/s"),
        (
            "match",
            f"{result.shards} shards x {fleet.replicas} replicas",
            f"{result.match_cores:,.1f} cores, {result.gallery_gib_per_shard:,.2f} GiB each",
        ),
        (
            "sightings",
            f"{result.sightings_per_s:,.2f} revisions/s",
            f"{result.sightings_cores:,.2f} cores, {result.database_gib:,.1f} GiB in {fleet.retention_days:g} days",
        ),
        ("all", "", f"{result.cores:,.0f} cores"),
    ]
