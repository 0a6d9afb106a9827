"""``sightline subjects``: who is enrolled; show, rename, erase."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.audit_chain import keep_command
from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import UsageError
from core.settings import Settings
from enrollment.record import Reference, Subject

COLLECTION = typer.Option(None, "--collection", help="Look in this gallery only.")
KEY = typer.Argument(help="Name or id of a subject.")

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_subjects(ctx: typer.Context, as_json: bool = JSON_OPTION, collection: str | None = COLLECTION) -> None:
    """List the enrolled people."""

    async def work(store: Any) -> None:
        table = Table("name", "references", "collection", "enrolled", "expires", "id")
        total = 0
        await keep_command(store.db, "subjects.list")
        for name in [collection] if collection else await store.collections():
            after = ""
            while page := await store.subjects(name, after=after):
                after = page[-1].name
                total += len(page)
                for subject in page:
                    if as_json:
                        emit(subject_line(subject))
                    else:
                        table.add_row(*_cells(subject))
        if not as_json:
            console().print(table if total else "nobody is enrolled; 'sightline enroll PATH' enrols people from photos")

    _with_store(ctx, work)


@app.command()
def show(ctx: typer.Context, name: Annotated[str, KEY], as_json: bool = JSON_OPTION, collection: str | None = COLLECTION) -> None:
    """Show what is recorded of a subject."""

    async def work(store: Any) -> None:
        subject = await store.subject(name, collection=collection)
        references = await store.references(subject.subject_id)
        await keep_command(store.db, "subject.read", subject.subject_id)
        if as_json:
            emit({**subject_line(subject), "references": [reference_line(reference) for reference in references]})
            return
        table = Table(show_header=False)
        for key, value in subject_line(subject).items():
            table.add_row(key, _plain(value))
        console().print(table)
        console().print(_reference_table(references))

    _with_store(ctx, work)


@app.command()
def references(ctx: typer.Context, name: Annotated[str, KEY], as_json: bool = JSON_OPTION, collection: str | None = COLLECTION) -> None:
    """List the enrolled faces of a subject."""

    async def work(store: Any) -> None:
        subject = await store.subject(name, collection=collection)
        found = await store.references(subject.subject_id)
        await keep_command(store.db, "references.list", subject.subject_id)
        if as_json:
            for reference in found:
                emit(reference_line(reference))
        else:
            console().print(_reference_table(found))

    _with_store(ctx, work)


@app.command()
def face(ctx: typer.Context, reference_id: str, path: Annotated[Path, typer.Argument(help="The JPEG to write.")]) -> None:
    """Write the picture of an enrolled face to a file."""

    async def work(store: Any) -> None:
        data = await store.face_jpeg(reference_id)
        await keep_command(store.db, "reference.image", reference_id)
        try:
            path.write_bytes(data)
        except OSError as err:
            raise UsageError(f"{path}: can't be written: {err.strerror}") from err

    _with_store(ctx, work)


@app.command()
def rename(
    ctx: typer.Context,
    old: Annotated[str, KEY],
    new: Annotated[str, typer.Argument(help="The new name.")],
    as_json: bool = JSON_OPTION,
    collection: str | None = COLLECTION,
) -> None:
    """Give a subject another name."""

    async def work(store: Any) -> None:
        subject = await store.rename(old, new, collection=collection)
        await keep_command(store.db, "subject.update", subject.subject_id)
        if as_json:
            emit(subject_line(subject))
        else:
            console().print(f"renamed to {_plain(subject.name)}")

    _with_store(ctx, work)


@app.command()
def erase(
    ctx: typer.Context,
    name: Annotated[str, KEY],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: bool = JSON_OPTION,
    collection: str | None = COLLECTION,
) -> None:
    """Erase a subject for good: photos, embeddings, and the name in all sightings. Prints a receipt without personal data."""

    async def work(store: Any) -> None:
        subject = await store.subject(name, collection=collection)
        if not yes:
            words = f"Erase {_plain(subject.name)} ({subject.references} references, collection {subject.collection}) for good?"
            typer.confirm(words, abort=True, err=True)
        receipt = await store.erase(subject.subject_id)
        await keep_command(store.db, "subject.erase", subject.subject_id, receipt_id=receipt.receipt_id)
        if as_json:
            emit(asdict(receipt))
        else:
            counts = f"{receipt.references} references, {receipt.embeddings} embeddings, the name in {receipt.sightings} sightings"
            console().print(f"erased: {counts}; receipt {receipt.receipt_id}")

    _with_store(ctx, work)


@app.command()
def export(
    ctx: typer.Context,
    name: Annotated[str, KEY],
    path: Annotated[Path, typer.Argument(help="The zip to write; it must not exist.")],
    as_json: bool = JSON_OPTION,
    collection: str | None = COLLECTION,
) -> None:
    """Write everything that is kept of a subject to a zip: the right of access. Other people are blurred in its pictures."""
    from cli.subject_export import export_subject

    settings: Settings = ctx.obj.settings()
    subject_id, size = export_subject(settings, name, path, collection=collection)
    if as_json:
        emit({"subject_id": subject_id, "path": str(path), "bytes": size})
    else:
        console().print(f"{path}: {size:,} bytes", markup=False)


def _with_store(ctx: typer.Context, work: Callable[[Any], Awaitable[None]]) -> None:
    settings: Settings = ctx.obj.settings()

    async def main() -> None:
        from cli.store import open_store

        async with open_store(settings) as store:
            await work(store)

    run_async(main())


def subject_line(subject: Subject) -> dict[str, Any]:
    """Return a subject as JSON."""
    return {
        "subject_id": subject.subject_id,
        "subject": subject.name,
        "collection": subject.collection,
        "references": subject.references,
        "attributes": subject.attributes,
        "consent": subject.consent,
        "external_id": subject.external_id,
        "notes": subject.notes,
        "valid_from": subject.valid_from,
        "expires_at": subject.expires_at,
        "ends_at": subject.ends_at,
        "created_at": subject.created_at,
    }


def reference_line(reference: Reference) -> dict[str, Any]:
    """Return a reference as JSON."""
    return {
        "reference_id": reference.reference_id,
        "subject_id": reference.subject_id,
        "source": reference.source,
        "quality": round(reference.quality, 4),
        "quality_reasons": reference.quality_reasons,
        "models": reference.models,
        "created_at": reference.created_at,
    }


def _reference_table(found: list[Reference]) -> Table:
    table = Table("photo", "quality", "lowered by", "models", "enrolled", "id")
    for r in found:
        reasons = ", ".join(r.quality_reasons).replace("_", " ")
        table.add_row(_plain(r.source), f"{r.quality:.2f}", reasons, ", ".join(r.models), f"{r.created_at:%Y-%m-%d %H:%M}", r.reference_id)
    return table


def _cells(subject: Subject) -> tuple[str, ...]:
    expires = f"{subject.ends_at:%Y-%m-%d}" if subject.ends_at else ""
    enrolled = f"{subject.created_at:%Y-%m-%d %H:%M}"
    return _plain(subject.name), str(subject.references), subject.collection, enrolled, expires, subject.subject_id


def _plain(value: Any) -> str:
    """Return a value as text that rich shows as it is, on one line."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "?" for c in text).replace("[", r"\[")
