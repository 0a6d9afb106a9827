"""``sightline cases``: which cases there are, and whether an export is what this deployment exported."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import NotFoundError, UnreadableMediaError
from core.settings import Settings

if TYPE_CHECKING:
    from sightings.cases import Case

PAGE = 500

app = typer.Typer(no_args_is_help=True)


@app.callback()
def cases() -> None:
    """List cases, and check their exports."""


@app.command("list")
def list_cases(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the cases, newest first."""
    settings: Settings = ctx.obj.settings()

    async def work() -> "list[Case]":
        from cli.database import open_database_for
        from sightings.cases import CaseStore

        async with open_database_for(settings) as db:
            store, found, cursor = CaseStore(db), list["Case"](), None
            while True:
                page, cursor = await store.query(limit=PAGE, cursor=cursor)
                found += page
                if cursor is None:
                    return found

    lines = [_line(case) for case in run_async(work())]
    if as_json:
        for line in lines:
            emit(line)
        return
    table = Table("opened", "title", "state", "owner", "sightings", "legal hold", "id")
    for line in lines:
        cells = (line["created_at"], escape(line["title"]), line["state"], escape(line["owner"] or "-"), str(line["sightings"]))
        table.add_row(*cells, "yes" if line["legal_hold"] else "no", line["case_id"])
    console().print(table if lines else "no cases")


@app.command()
def verify(
    ctx: typer.Context, export: Annotated[Path, typer.Argument(help="A zip that the API exported.")], as_json: bool = JSON_OPTION
) -> None:  # fmt: skip
    """Check that this deployment made an export, and that nobody changed it since. Needs the deployment's key, no database."""
    from api.cases.export import PURPOSE
    from api.cases.export import verify as check
    from core.secrets import open_vault

    settings: Settings = ctx.obj.settings()
    vault = open_vault(settings.data_dir, settings.secret_key, settings.old_secret_keys)
    try:
        with export.open("rb") as data:
            facts = check(data, vault.derived(PURPOSE))
    except FileNotFoundError as err:
        raise NotFoundError(f"{export}: no such file") from err
    except (UnreadableMediaError, OSError) as err:
        raise UnreadableMediaError(f"{export}: {err}") from err
    if as_json:
        told = {key: facts[key] for key in ("case_id", "exported_at", "exported_by", "pictures")}
        emit({"verified": True, **told, "files": len(facts["files"])})
    else:
        who = escape(str(facts["exported_by"]["name"]))
        what = f"case {facts['case_id']}, {len(facts['files'])} files, exported by {who} at {facts['exported_at']}"
        console().print(f"{export}: {what}: unchanged")


def _line(case: "Case") -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "title": case.title,
        "collection": case.collection,
        "state": case.state,
        "owner": case.owner,
        "legal_hold": case.legal_hold,
        "sightings": case.sightings,
        "notes": case.notes,
        "created_at": datetime.fromtimestamp(case.created_s, UTC).isoformat(timespec="seconds"),
        "created_by": case.created_by,
    }
