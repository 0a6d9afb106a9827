"""``sightline users``: people who log in with a password, on the database directly."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cli.keys import ACTOR, CAMERA_GROUP, COLLECTION, ROLE, WATCHLIST, checked_role, grants
from cli.output import JSON_OPTION, console, emit, run_async
from core.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from api.access.record import UserRecord
    from api.access.user_store import UserStore

PAGE = 500
NAME = typer.Argument(help="Name of a user.")
STDIN = typer.Option(False, "--password-stdin", help="Read the password from standard input instead of asking for it.")

app = typer.Typer(no_args_is_help=True)


@app.callback()
def users() -> None:
    """Add, list, disable and remove the people who log in to the console with a password."""


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters, digits and . _ @ -; case does not count.")],
    role: str = ROLE,
    collection: list[str] = COLLECTION,
    watchlist: list[str] = WATCHLIST,
    camera_group: list[str] = CAMERA_GROUP,
    password_stdin: bool = STDIN,
    as_json: bool = JSON_OPTION,
) -> None:
    """Add a user; asks for the password."""
    chosen: Any = checked_role(role)
    _check_name(name)
    password = _password(from_stdin=password_stdin)

    async def work(store: "UserStore") -> None:
        from api.access.passwords import Passwords
        from api.access.user_store import NewUser

        new = NewUser(name=name, role=chosen, password=await Passwords().hash(password), **grants(collection, watchlist, camera_group))
        _say(await store.create(new, created_by=ACTOR), "is added", as_json=as_json)

    _with_store(ctx, work)


@app.command("list")
def list_users(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the users."""

    async def work(store: "UserStore") -> None:
        found: list[UserRecord] = []
        while page := await store.page(limit=PAGE, after=found[-1].name if found else ""):
            found += page
        if as_json:
            for user in found:
                emit(_line(user))
            return
        table = Table("name", "role", "state", "last login")
        for user in found:
            seen = f"{user.last_login_at:%Y-%m-%d %H:%M}" if user.last_login_at else "never"
            table.add_row(user.name, user.role, "disabled" if user.disabled else "good", seen)
        console().print(table if found else "no users yet; 'sightline users add NAME --role operator' adds one")

    _with_store(ctx, work)


@app.command()
def passwd(ctx: typer.Context, name: Annotated[str, NAME], password_stdin: bool = STDIN, as_json: bool = JSON_OPTION) -> None:
    """Give a user another password; ends the user's sessions."""
    password = _password(from_stdin=password_stdin)

    async def work(store: "UserStore") -> None:
        from api.access.passwords import Passwords

        user = await _find(store, name)
        changed = await store.change(user.user_id, {"password": await Passwords().hash(password)})
        _say(changed, "has another password", as_json=as_json)

    _with_store(ctx, work)


@app.command()
def disable(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Let a user in no more; ends the user's sessions."""
    _set_disabled(ctx, name, disabled=True, as_json=as_json)


@app.command()
def enable(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Let a disabled user in again."""
    _set_disabled(ctx, name, disabled=False, as_json=as_json)


@app.command()
def remove(ctx: typer.Context, name: Annotated[str, NAME], as_json: bool = JSON_OPTION) -> None:
    """Remove a user; ends the user's sessions."""

    async def work(store: "UserStore") -> None:
        user = await _find(store, name)
        await store.remove(user.user_id)
        _say(user, "is removed", as_json=as_json)

    _with_store(ctx, work)


def _set_disabled(ctx: typer.Context, name: str, *, disabled: bool, as_json: bool) -> None:
    async def work(store: "UserStore") -> None:
        user = await store.change((await _find(store, name)).user_id, {"disabled": disabled})
        _say(user, "is disabled" if disabled else "is let in again", as_json=as_json)

    _with_store(ctx, work)


async def _find(store: "UserStore", name: str) -> "UserRecord":
    user = await store.by_name(name)
    if user is None:
        raise NotFoundError(f"user '{name[:64]}': there is none; 'sightline users list' shows all")
    return user


def _check_name(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from api.access.models import UserName

    try:
        TypeAdapter(UserName).validate_python(name)
    except ValidationError:
        raise UsageError(f"user name {name[:80]!r}: use 1 to 64 letters, digits and . _ @ -") from None


def _password(*, from_stdin: bool) -> str:
    """Ask for a password, or read it. Raises UsageError: too short or too long."""
    from api.access.models import MIN_PASSWORD

    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    if not MIN_PASSWORD <= len(password) <= 200:
        raise UsageError(f"password: {MIN_PASSWORD} to 200 characters; several words make a good one")
    return password


def _say(user: "UserRecord", what: str, *, as_json: bool) -> None:
    if as_json:
        emit(_line(user))
    else:
        console().print(f"user {user.name} {what}")


def _line(user: "UserRecord") -> dict[str, Any]:
    from api.access.models import UserView

    return UserView.of(user).model_dump(mode="json")


def _with_store(ctx: typer.Context, work: "Callable[[UserStore], Awaitable[None]]") -> None:
    settings = ctx.obj.settings()

    async def run() -> None:
        from api.access.user_store import UserStore
        from cli.database import open_database_for

        async with open_database_for(settings) as db:
            await work(UserStore(db))

    run_async(run())
