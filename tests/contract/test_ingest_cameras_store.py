"""The camera table against PostgreSQL."""

from pathlib import Path

import pytest

from core.errors import ConflictError, NotFoundError, SettingsError, UsageError
from core.ports import Database
from core.secrets import open_secret_box
from core.settings import IngestSettings
from ingest.cameras import CameraSpec, CameraStore
from ingest.zones import parse_polygon

URL = "rtsp://admin:geheim@10.0.0.5/1"


@pytest.fixture
def store(db: Database, tmp_path: Path) -> CameraStore:
    return CameraStore(db, open_secret_box(tmp_path))


async def test_what_is_added_comes_back_whole(store: CameraStore) -> None:
    spec = CameraSpec(
        name="door",
        url=URL,
        region="west",
        loop=True,
        max_fps=5.0,
        zones=(parse_polygon("0,0 1,0 1,1"),),
        masks=(parse_polygon("0,0 0.5,0 0.5,0.5"),),
    )
    await store.add(spec)
    record = await store.get("door")
    assert (record.spec, record.enabled, record.url_redacted) == (spec, True, "rtsp://***@10.0.0.5/1")
    assert [item.spec.name for item in await store.list()] == ["door"]


async def test_no_credential_lies_readable_in_the_database(store: CameraStore, db: Database) -> None:
    await store.add(CameraSpec(name="door", url=URL))
    (row,) = await db.fetch("select * from camera")
    assert "geheim" not in repr(row)
    assert "geheim" not in repr(await store.get("door"))


async def test_a_name_is_taken_once(store: CameraStore) -> None:
    await store.add(CameraSpec(name="door", url=URL))
    with pytest.raises(ConflictError, match="camera door exists"):
        await store.add(CameraSpec(name="door", url="rtsp://other/1"))


async def test_disabled_cameras_are_not_run_but_remembered(store: CameraStore) -> None:
    await store.add(CameraSpec(name="a", url=URL))
    await store.add(CameraSpec(name="b", url=URL))
    await store.set_enabled("a", False)
    assert [spec.name for spec in await store.enabled()] == ["b"]
    await store.set_enabled("a", True)
    assert [spec.name for spec in await store.enabled()] == ["a", "b"]


async def test_removed_is_forgotten(store: CameraStore) -> None:
    await store.add(CameraSpec(name="door", url=URL))
    await store.remove("door")
    assert await store.list() == []


@pytest.mark.parametrize("action", ["get", "remove", "enable"])
async def test_unknown_names_are_named(store: CameraStore, action: str) -> None:
    calls = {"get": lambda: store.get("x"), "remove": lambda: store.remove("x"), "enable": lambda: store.set_enabled("x", True)}
    with pytest.raises(NotFoundError, match="there is no camera x"):
        await calls[action]()


async def test_another_key_file_is_one_clear_line(store: CameraStore, db: Database, tmp_path: Path) -> None:
    await store.add(CameraSpec(name="door", url=URL))
    with pytest.raises(SettingsError, match="camera door: its secret can't be opened"):
        await CameraStore(db, open_secret_box(tmp_path / "other")).list()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a b"}, "camera name 'a b'"),
        ({"name": "x" * 65}, "camera name"),
        ({"region": "/"}, "camera region '/'"),
        ({"url": "ftp://x"}, "scheme 'ftp' is not supported"),
        ({"url": "rtsp://a\nb"}, "control characters"),
        ({"url": "rtsp://" + "a" * 2000}, "longer than 2000 characters"),
        ({"max_fps": 0.0}, "max_fps must be more than 0"),
        ({"max_fps": float("nan")}, "max_fps must be more than 0"),
    ],
)
def test_impossible_cameras_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CameraSpec(**({"name": "door", "url": URL} | fields))


def test_settings_fill_in_what_a_camera_leaves_open() -> None:
    config = CameraSpec(name="door", url=URL).config(IngestSettings(max_fps=7, hold_s=2, heartbeat_s=3, track_fps=1, jpeg_quality=80))
    assert (config.gate.max_fps, config.gate.hold_s, config.gate.heartbeat_s, config.gate.track_fps, config.jpeg_quality) == (
        7,
        2,
        3,
        1,
        80,
    )
    assert CameraSpec(name="door", url=URL, max_fps=4).config(IngestSettings()).gate.max_fps == 4
