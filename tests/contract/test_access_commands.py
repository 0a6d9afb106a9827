"""``sightline keys`` and ``sightline users``, on the database directly."""

import asyncio
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.access.key_store import KeyStore
from api.access.passwords import Passwords
from api.access.user_store import UserStore
from cli.first_key import tell_first_key
from cli.main import app
from core.adapters.postgres import open_database
from core.errors import SightlineError
from core.ports import Database
from core.settings import Settings
from tests.builders.access import PASSWORD


@pytest.fixture
def data_dir(database_dir: Path) -> Path:
    """The data folder of the session's database, without anybody in it."""

    async def empty() -> None:
        async with open_database("embedded:", data_dir=database_dir, migrations=files("deploy") / "migrations") as db:
            await db.execute("truncate api_key, api_user cascade")

    asyncio.run(empty())
    return database_dir


def run(data_dir: Path, *words: str, given: str = "") -> list[dict[str, Any]]:
    """Run a command with --json and return what it printed; raises what it failed with."""
    result = CliRunner().invoke(app, ["--data", str(data_dir), *words, "--json"], input=given)
    if isinstance(result.exception, SightlineError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def refused(data_dir: Path, *words: str, given: str = "") -> str:
    with pytest.raises(SightlineError) as caught:
        run(data_dir, *words, given=given)
    return str(caught.value)


def test_a_key_from_its_making_to_its_end(data_dir: Path) -> None:
    (made,) = run(data_dir, "keys", "create", "door", "--role", "service", "--scope", "search", "--collection", "staff", "--per-day", "9")
    assert (made["permissions"], made["collections"], made["requests_per_day"], made["state"]) == (["search"], ["staff"], 9, "good")
    (rotated,) = run(data_dir, "keys", "rotate", made["prefix"], "--grace", "0")
    assert rotated["key"].startswith(made["prefix"])
    assert rotated["key"] != made["key"]
    assert run(data_dir, "keys", "revoke", made["key_id"])[0]["state"] == "revoked"
    (listed,) = run(data_dir, "keys", "list")
    assert (listed["name"], listed["state"], "key" in listed) == ("door", "revoked", False)


def test_a_user_from_the_first_day_to_the_last(data_dir: Path) -> None:
    (made,) = run(data_dir, "users", "add", "ada", "--role", "operator", "--password-stdin", given=PASSWORD + "\n")
    assert (made["role"], "password" in made) == ("operator", False)
    assert run(data_dir, "users", "disable", "ADA")[0]["disabled"] is True
    assert run(data_dir, "users", "enable", "ada")[0]["disabled"] is False
    run(data_dir, "users", "passwd", "ada", "--password-stdin", given="another good password\n")
    assert [user["name"] for user in run(data_dir, "users", "list")] == ["ada"]
    run(data_dir, "users", "remove", "ada")
    assert run(data_dir, "users", "list") == []


def test_what_makes_no_sense_is_one_clear_line(data_dir: Path) -> None:
    assert refused(data_dir, "keys", "create", "x", "--role", "king").startswith("--role king: choose one of viewer, operator")
    assert refused(data_dir, "keys", "create", "x", "--scope", "search").startswith("--scope search: the role viewer has alerts.read")
    assert refused(data_dir, "keys", "revoke", "sl_nothing") == "key sl_nothing: there is none; 'sightline keys list' shows all"
    assert refused(data_dir, "users", "passwd", "eve", "--password-stdin", given=PASSWORD) == (
        "user 'eve': there is none; 'sightline users list' shows all"
    )
    short = refused(data_dir, "users", "add", "eve", "--password-stdin", given="short\n")
    assert short == "password: 12 to 200 characters; several words make a good one"
    assert refused(data_dir, "users", "add", "a b", "--password-stdin", given=PASSWORD).startswith("user name 'a b': use 1 to 64 letters")


async def test_the_first_start_tells_one_key_once_and_none_beside_a_token(db: Database) -> None:
    told: list[str] = []
    for _ in range(2):
        await tell_first_key(db, Settings(), told.append)
    (key,) = told
    assert key.startswith("sl_")
    await db.execute("truncate api_key cascade")
    await tell_first_key(db, Settings(api={"token": "a-token-of-the-settings"}), told.append)  # type: ignore[arg-type]
    assert told == [key]
    assert await KeyStore(db).page(limit=1) == ([], None)


async def test_a_password_from_the_command_line_is_the_one_that_logs_in(data_dir: Path, db: Database) -> None:
    await asyncio.to_thread(run, data_dir, "users", "add", "ada", "--password-stdin", given=PASSWORD + "\n")
    user = await UserStore(db).by_name("Ada")
    assert user is not None
    assert await Passwords().matches(user.password, PASSWORD)
