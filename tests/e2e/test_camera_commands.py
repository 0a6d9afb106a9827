"""``sightline cameras``, as a person types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from core.errors import UsageError


def sightline(data_dir: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--data", str(data_dir), "cameras", *words, "--json"])


def lines(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


@pytest.fixture
def data_dir(database_dir: Path, db: object) -> Path:
    return database_dir


def test_a_camera_is_changed_where_it_is_told_to_and_nowhere_else(data_dir: Path) -> None:
    sightline(data_dir, "add", "door", "rtsp://a:geheim@10.0.0.5/1", "--region", "west", "--max-fps", "5", "--zone", "0,0 1,0 1,1")
    (line,) = lines(sightline(data_dir, "set", "door", "--region", "east"))
    assert (line["region"], line["max_fps"], line["url"]) == ("east", 5.0, "rtsp://***@10.0.0.5/1")
    assert line["zones"] == [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]]
    (line,) = lines(sightline(data_dir, "set", "door", "--max-fps", "0", "--zone", "", "--url", "rtsp://b:neu@10.0.0.6/1"))
    assert (line["region"], line["max_fps"], line["url"], line["zones"]) == ("east", None, "rtsp://***@10.0.0.6/1", [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["set", "door"], "nothing to change"),
        (["set", "door", "--max-fps", "-1"], "max_fps must be more than 0"),
        (["set", "door", "--region", "a b"], "camera region 'a b'"),
        (["set", "door", "--url", "ftp://x"], "scheme 'ftp' is not supported"),
    ],
)
def test_impossible_changes_are_one_clear_line(data_dir: Path, words: list[str], message: str) -> None:
    sightline(data_dir, "add", "door", "rtsp://10.0.0.5/1")
    result = sightline(data_dir, *words)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


async def test_a_fleets_cameras_are_listed_with_who_runs_them(db, database_dir: Path, tmp_path: Path) -> None:
    import asyncio

    from core.secrets import open_secret_box
    from ingest.cameras import CameraSpec, CameraStore
    from ingest.leases import CameraState, Identity, LeaseStore

    await CameraStore(db, open_secret_box(database_dir)).add(CameraSpec(name="door", url="rtsp://10.0.0.5/1"))
    me = Identity(id="north-1", token="6f2a7a52-55f2-5e0b-9a0c-6d1e5f5a1c01", host="h", pid=1)
    leases = LeaseStore(db)
    await leases.register(me)
    await leases.take(me, ["door"])
    await leases.report([CameraState(camera="door", ingester="north-1", state="retrying", reason="no answer within 8 s")])
    (line,) = lines(await asyncio.to_thread(sightline, database_dir, "list"))
    assert (line["ingester"], line["state"], line["reason"]) == ("north-1", "retrying", "no answer within 8 s")
