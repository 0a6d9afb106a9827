"""The watchlists command as people and programs use it."""

import asyncio
import json
import subprocess
import sys
import uuid
from importlib.resources import files
from pathlib import Path
from typing import Any

from core.adapters.postgres import open_database

ROOT = Path(__file__).parents[2]
SIGHTLINE = [sys.executable, "-c", "from cli.main import main; main()"]


def watchlists(data: Path, *args: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run ``sightline watchlists``; return exit code, JSON lines of stdout, stderr."""
    done = subprocess.run([*SIGHTLINE, "--data", data, "watchlists", *args], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


async def _enrol(data: Path) -> None:
    async with open_database("embedded:", data_dir=data, migrations=files("deploy") / "migrations") as db:
        await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', 'Grace Hopper')", uuid.uuid4())


def test_a_watchlist_from_its_making_to_its_end(tmp_path: Path) -> None:
    asyncio.run(_enrol(tmp_path))
    (made,) = watchlists(tmp_path, "add", "wanted", "--json")[1]
    assert {key: made[key] for key in ("name", "collection", "enabled", "subjects", "alert_on", "active_hours")} == {
        "name": "wanted",
        "collection": "default",
        "enabled": True,
        "subjects": 0,
        "alert_on": "match",
        "active_hours": [],
    }
    options = ("--hours", "mon-fri 22:00-06:00", "--time-zone", "Europe/Berlin", "--group", "north", "--sound", "chime")
    (changed,) = watchlists(tmp_path, "set", "wanted", *options, "--json")[1]
    assert changed["active_hours"] == [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "22:00", "to": "06:00"}]
    assert (changed["time_zone"], changed["camera_groups"], changed["sound"]) == ("Europe/Berlin", ["north"], "chime")
    code, _, told = watchlists(tmp_path, "set", "wanted", "--hours", "late")
    assert (code, told.strip()) == (
        2,
        "sightline: active hours 'late': expected for example 'mon-fri 08:00-18:00' or 'sat,sun 00:00-24:00'",
    )
    code, lines, _ = watchlists(tmp_path, "put", "wanted", "Grace Hopper", "--json")
    assert (code, lines[0]["put"], lines[0]["subjects"]) == (0, 1, 1)
    code, lines, told = watchlists(tmp_path, "put", "wanted", "Nobody")
    assert (code, lines) == (5, [])
    assert told.strip() == "sightline: subject 'Nobody': collection default has none of this name or id; nothing was changed"
    assert [line["subject"] for line in watchlists(tmp_path, "show", "wanted", "--json")[1]] == ["Grace Hopper"]
    assert watchlists(tmp_path, "alerts", "--since", "-1h", "--json") == (0, [], "")
    assert watchlists(tmp_path, "remove", "wanted", "--json")[1][0]["removed"] is True
