"""``sightline vault``: the keys of what is sealed in the database, and how they are replaced."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import ConflictError, SettingsError
from core.settings import Settings

if TYPE_CHECKING:
    from core.ports import Database
    from core.sealing import SealedColumn

app = typer.Typer(no_args_is_help=True)


@app.callback()
def vault() -> None:
    """Show and replace the keys that seal faces, embeddings and camera URLs in the database."""


@app.command()
def status(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """Count what the newest key has sealed, and what still waits to be sealed with it."""

    async def work(db: "Database") -> None:
        from core.sealing import count

        table = Table("what", "sealed with the newest key", "not yet")
        for where in _columns():
            done, waiting = await count(db, where)
            table.add_row(f"{where.table}.{where.column}", f"{done:,}", f"{waiting:,}")
            if as_json:
                emit({"table": where.table, "column": where.column, "newest": done, "waiting": waiting, "key": db.vault.newest.hex()})
        if not as_json:
            console().print(table)

    run_async(_with_database(ctx.obj.settings(), work))


@app.command()
def reseal(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """Seal everything with the newest key that another one has sealed. Stops and goes on at any place; runs beside everything else."""
    settings: Settings = ctx.obj.settings()
    run_async(_with_database(settings, lambda db: _reseal(db, settings, as_json=as_json)))


@app.command()
def rotate(
    ctx: typer.Context,
    retire: Annotated[
        bool, typer.Option(help="Forget the former keys at the end; audit entries made under them can't be verified any more then.")
    ] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a new key in the data folder and seal everything with it. Stop the other processes of this data folder first.

    A fleet whose keys come from the settings is rotated there: see docs/operations.md.
    """
    settings: Settings = ctx.obj.settings()
    if settings.secret_key is not None:
        raise SettingsError(
            "secret_key: comes from the settings; replace it there, add the former to old_secret_keys, then: sightline vault reseal"
        )

    from core.secrets import OLD_KEYS_FILE, add_key

    async def alone(db: "Database") -> None:
        rows = await db.fetch(
            "select count(*) as n from pg_stat_activity "
            "where application_name = 'sightline' and pid <> pg_backend_pid() and backend_start < now() - interval '5 seconds'"
        )
        if rows[0]["n"]:
            raise ConflictError("vault: other processes use this database and would not know the new key; stop them first")

    run_async(_with_database(settings, alone))
    add_key(settings.data_dir)
    run_async(_with_database(settings, lambda db: _reseal(db, settings, as_json=as_json)))
    if retire:
        (settings.data_dir / OLD_KEYS_FILE).unlink(missing_ok=True)
        run_async(_with_database(settings, _forget_keys))
    elif not as_json:
        console().print("the former key stays in secret.key.old: it seals nothing any more, and verifies the audit entries of its time")


def _columns() -> "tuple[SealedColumn, ...]":
    """Return every sealed column of all rooms."""
    from api.idempotency import SEALED as ANSWERS
    from api.jobs.record import SEALED as JOBS
    from api.webhooks.store import SEALED as WEBHOOKS
    from enrollment.store import SEALED as GALLERY
    from ingest.cameras import SEALED as CAMERAS
    from sightings.cases import SEALED as CASES
    from sightings.feedback import SEALED as FEEDBACK
    from sightings.people_store import SEALED as PERSONS
    from sightings.store import SEALED as SIGHTINGS

    return (*GALLERY, *JOBS, *SIGHTINGS, *FEEDBACK, *CASES, *PERSONS, *CAMERAS, *WEBHOOKS, *ANSWERS)


async def _with_database(settings: Settings, work: "Callable[[Database], Awaitable[None]]") -> None:
    from cli.database import open_database_for

    async with open_database_for(settings) as db:
        await work(db)


async def _reseal(db: "Database", settings: Settings, *, as_json: bool) -> None:
    from core.adapters.object_store import open_object_store
    from core.objects import SealedObjects
    from core.sealing import reseal as reseal_column

    for where in _columns():
        done = 0
        async for some in reseal_column(db, where):
            done += some
        if as_json:
            emit({"table": where.table, "column": where.column, "resealed": done})
        else:
            console().print(f"{where.table}.{where.column}: {done:,} sealed anew")
    objects = open_object_store(settings.storage, data_dir=settings.data_dir, vault=db.vault)
    if isinstance(objects, SealedObjects):  # a bucket seals by itself
        done = await objects.reseal()
        if as_json:
            emit({"objects": settings.storage.url, "resealed": done})
        else:
            console().print(f"uploads and results: {done:,} sealed anew")


async def _forget_keys(db: "Database") -> None:
    await db.execute("delete from vault_key where key_id <> $1", db.vault.newest)
