"""``sightline keys``: API keys, on the database directly; also how an administrator gets in whose key is lost."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from api.access.key_store import KeyStore, Made
    from api.access.record import KeyRecord

PAGE = 500
KEY = typer.Argument(help="Its id, or how it begins (sl_...).")
COLLECTION = typer.Option([], "--collection", help="Grant this collection only; may be repeated.")
WATCHLIST = typer.Option([], "--watchlist", help="Grant this watchlist only; may be repeated.")
CAMERA_GROUP = typer.Option([], "--camera-group", help="Grant cameras of this group only; may be repeated.")
ROLE = typer.Option("viewer", help="viewer, operator, admin, enroller or service.")
ACTOR = "cli"

app = typer.Typer(no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Make, list, rotate and revoke API keys. What is changed holds within a second on every server."""


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: str = ROLE,
    scope: Annotated[list[str], typer.Option(help="Only this permission of the role; may be repeated.")] = [],  # noqa: B006 - typer's way
    collection: list[str] = COLLECTION,
    watchlist: list[str] = WATCHLIST,
    camera_group: list[str] = CAMERA_GROUP,
    expires_days: Annotated[float | None, typer.Option(min=0.0001, max=36500, help="Refused after so many days.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Most requests a minute.")] = None,
    per_day: Annotated[int | None, typer.Option(min=1, help="Most requests a day.")] = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a key and print it, this once."""
    from api.access.key_store import NewKey

    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise UsageError("NAME: 1 to 200 printable characters")
    new = NewKey(
        name=name,
        role=checked_role(role),
        scopes=_scopes(role, scope),
        **grants(collection, watchlist, camera_group),
        rate_per_minute=per_minute,
        requests_per_day=per_day,
        expires_at=datetime.now(UTC) + timedelta(days=expires_days) if expires_days is not None else None,
    )

    async def work(store: "KeyStore") -> None:
        _tell_secret(await store.create(new, created_by=ACTOR), as_json=as_json)

    _with_store(ctx, work)


@app.command("list")
def list_keys(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the keys, newest first."""

    async def work(store: "KeyStore") -> None:
        found = await _all(store)
        if as_json:
            for key in found:
                emit(_line(key))
            return
        table = Table()
        table.add_column("begins with", no_wrap=True)
        for title in ("name", "role", "grants", "state", "last used", "today"):
            table.add_column(title)
        for key in found:
            used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
            table.add_row(f"sl_{key.public_id}", key.name, _role(key), _grants_text(key), _state(key), used, str(key.used_today))
        console().print(table if found else "no keys yet; 'sightline keys create NAME --role admin' makes one")

    _with_store(ctx, work)


@app.command()
def rotate(
    ctx: typer.Context,
    key: Annotated[str, KEY],
    grace: Annotated[float, typer.Option(min=0, max=30 * 86400, help="Seconds for which the secret before stays good.")] = 3600.0,
    as_json: bool = JSON_OPTION,
) -> None:
    """Give a key a new secret and print it, this once."""

    async def work(store: "KeyStore") -> None:
        _tell_secret(await store.rotate((await _find(store, key)).key_id, grace_s=grace), as_json=as_json)

    _with_store(ctx, work)


@app.command()
def revoke(ctx: typer.Context, key: Annotated[str, KEY], as_json: bool = JSON_OPTION) -> None:
    """Make a key of no use, for ever."""

    async def work(store: "KeyStore") -> None:
        revoked = await store.revoke((await _find(store, key)).key_id)
        if as_json:
            emit(_line(revoked))
        else:
            console().print(f"key sl_{revoked.public_id} ({revoked.name}) is revoked")

    _with_store(ctx, work)


def checked_role(text: str) -> Any:
    """Return a role. Raises UsageError for anything else."""
    from api.principal import ROLES

    if text not in ROLES:
        raise UsageError(f"--role {text}: choose one of {', '.join(ROLES)}")
    return text


def grants(collection: list[str], watchlist: list[str], camera_group: list[str]) -> dict[str, frozenset[str] | None]:
    """Return grants as the stores take them: none named means all."""
    return {
        "collections": frozenset(collection) or None,
        "watchlists": frozenset(watchlist) or None,
        "camera_groups": frozenset(camera_group) or None,
    }


def _scopes(role: str, scopes: list[str]) -> Any:
    from api.access.record import permissions_of

    if beyond := sorted(set(scopes) - permissions_of(role)):
        raise UsageError(f"--scope {beyond[0]}: the role {role} has {', '.join(sorted(permissions_of(role)))}")
    return frozenset(scopes) or None


async def _all(store: "KeyStore") -> "list[KeyRecord]":
    found: list[KeyRecord] = []
    cursor: str | None = None
    while True:
        page, cursor = await store.page(limit=PAGE, cursor=cursor)
        found += page
        if cursor is None:
            return found


async def _find(store: "KeyStore", text: str) -> "KeyRecord":
    """Return the key of an id or of the beginning of its text. Raises NotFoundError."""
    by_prefix = await store.by_public_id(text.removeprefix("sl_")[:12])
    if by_prefix is not None:
        return by_prefix
    try:
        return await store.get(text)
    except NotFoundError:
        raise NotFoundError(f"key {text[:16]}: there is none; 'sightline keys list' shows all") from None


def _tell_secret(made: "Made", *, as_json: bool) -> None:
    if as_json:
        emit(_line(made.key) | {"key": made.text})
    else:
        typer.echo(made.text)
        console().print("shown this once; send it as 'Authorization: Bearer ...', never in a URL", style="dim")


def _line(key: "KeyRecord") -> dict[str, Any]:
    from api.access.models import KeyView

    return KeyView.of(key).model_dump(mode="json") | {"state": _state(key)}


def _state(key: "KeyRecord") -> str:
    return "revoked" if key.revoked_at else "good" if key.valid else "expired"


def _role(key: "KeyRecord") -> str:
    return key.role if key.scopes is None else f"{key.role}: {', '.join(sorted(key.scopes))}"


def _grants_text(key: "KeyRecord") -> str:
    parts = [f"{what} {', '.join(sorted(names))}" for what, names in _granted(key) if names is not None]
    return "; ".join(parts) or "all"


def _granted(key: "KeyRecord") -> list[tuple[str, frozenset[str] | None]]:
    return [("collections", key.collections), ("watchlists", key.watchlists), ("camera groups", key.camera_groups)]


def _with_store(ctx: typer.Context, work: "Callable[[KeyStore], Awaitable[None]]") -> None:
    settings = ctx.obj.settings()

    async def run() -> None:
        from api.access.key_store import KeyStore
        from cli.database import open_database_for

        async with open_database_for(settings) as db:
            await work(KeyStore(db))

    run_async(run())
