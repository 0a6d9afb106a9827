"""Cameras over HTTP: kept, tried and looked at, against a real PostgreSQL and a real RTSP stream; never where they may not lead."""

import base64
import http.server
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from api.app import build_app
from core.errors import UnavailableError
from core.jpeg import decode_jpeg
from core.outbound import AddressRefusedError
from core.ports import Database
from core.secrets import SecretBox
from core.settings import OutboundSettings
from ingest.cameras import CameraSpec, CameraStore
from ingest.opening import SourceOptions
from ingest.probe import probe_source
from tests.builders.api import ADMIN, services
from tests.builders.clips import write_clip
from tests.builders.rtsp import Mood, RtspServer, access_units

Client = TestClient[Any, Any]
URL = "rtsp://admin:geheim@192.168.7.21/stream1"
SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]


@pytest.fixture
async def client(aiohttp_client: Callable[..., Awaitable[Client]], db: Database) -> Client:
    return await aiohttp_client(build_app(services(db)), headers=ADMIN)


@pytest.fixture
async def near(aiohttp_client: Callable[..., Awaitable[Client]], db: Database) -> Client:
    """Return a client of a server that may connect to cameras on this machine."""
    parts = services(db)
    settings = parts.settings.model_copy(update={"outbound": OutboundSettings(allow_loopback_cameras=True)})
    return await aiohttp_client(build_app(replace(parts, settings=settings)), headers=ADMIN)


async def body(response: ClientResponse, status: int = 200) -> dict[str, Any]:
    found: dict[str, Any] = await response.json()
    assert response.status == status, found
    return found


@contextmanager
def camera(folder: Path, mood: Mood = "plays") -> Iterator[RtspServer]:
    clip = folder / "clip.mp4"
    write_clip(clip, frames=25, fps=25, width=320, height=240)
    with RtspServer(access_units(clip), mood) as server:
        yield server


async def test_a_camera_from_its_adding_to_its_end(client: Client, db: Database) -> None:
    new = {"name": "door", "url": URL, "groups": ["north", "entrances"], "max_fps": 5, "zones": [SQUARE], "gate": {"hold_s": 2}}
    response = await client.post("/v1/cameras", json=new)
    made = await body(response, 201)
    assert (made["url"], made["groups"], made["zones"], made["gate"]["hold_s"]) == (
        "rtsp://***@192.168.7.21/stream1",
        ["entrances", "north"],
        [SQUARE],
        2,
    )
    assert (made["state"], made["enabled"], made["version"], response.headers["Location"]) == ("waiting", True, 1, "/v1/cameras/door")
    (row,) = await db.fetch("select * from camera")
    assert "geheim" not in repr(row)
    assert row["over_api"] is True
    assert (await body(await client.post("/v1/cameras", json=new), 409))["error"]["code"] == "conflict"
    etag = response.headers["ETag"]
    changed = await body(await client.patch("/v1/cameras/door", json={"enabled": False, "max_fps": None}, headers={"If-Match": etag}))
    assert (changed["state"], changed["max_fps"], changed["zones"], changed["version"]) == ("disabled", None, [SQUARE], 2)
    late = await client.patch("/v1/cameras/door", json={"region": "west"}, headers={"If-Match": etag})
    assert (await body(late, 412))["error"]["message"] == "camera door: was changed meanwhile; read it again"
    stored = await CameraStore(db, SecretBox(db.vault)).get("door")
    assert (stored.spec.url, stored.spec.hold_s) == (URL, 2)
    assert [one["name"] for one in (await body(await client.get("/v1/cameras?group=north")))["cameras"]] == ["door"]
    assert (await body(await client.get("/v1/cameras?group=south")))["cameras"] == []
    await body(await client.delete("/v1/cameras/door"))
    await body(await client.get("/v1/cameras/door"), 404)
    events = await db.fetch("select revision, camera from event where kind = 'camera' order by event_id")
    assert [(row["revision"], row["camera"]) for row in events] == [(1, "door"), (2, "door"), (3, "door")]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"url": "file:///etc/passwd"}, 400),
        ({"url": "/dev/video0"}, 400),
        ({"url": "rtsp://127.0.0.1:8554/x"}, 422),
        ({"url": "http://169.254.169.254/latest"}, 422),
        ({"url": "rtsp://[::ffff:127.0.0.1]/"}, 422),
        ({"url": "rtsp://2130706433/"}, 422),
        ({"url": "udp://@:5000"}, 400),
        ({"url": "concat:http://8.8.8.8/a|file:///etc/passwd"}, 400),
        ({"url": "rtsp://a b/"}, 400),
        ({"name": "a/b"}, 400),
        ({"zones": [[[0, 0], [1, 1]]]}, 400),
        ({"zones": [[[0, 0], [1, 1], [2, 0]]]}, 400),
        ({"max_fps": 0}, 400),
        ({"gate": {"heartbeat_s": 0}}, 400),
        ({"loop": True}, 400),
    ],
)
async def test_cameras_that_can_not_be_are_refused(client: Client, db: Database, fields: dict[str, Any], status: int) -> None:
    found = await body(await client.post("/v1/cameras", json={"name": "door", "url": URL} | fields), status)
    assert "geheim" not in str(found)
    assert await db.fetch("select from camera") == []
    if "url" in fields:
        await body(await client.post("/v1/camera-tests", json=fields), status)
        await body(await client.post("/v1/cameras", json={"name": "door", "url": URL}), 201)
        await body(await client.patch("/v1/cameras/door", json=fields), status)


async def test_a_url_is_tried_and_its_picture_shown(near: Client, tmp_path: Path) -> None:
    with camera(tmp_path) as server:
        found = await body(await near.post("/v1/camera-tests", json={"url": server.url}))
    assert (found["ok"], found["codec"], found["width_px"], found["height_px"], found["reason"]) == (True, "h264", 320, 240, "")
    assert found["measured_fps"] > 5
    assert decode_jpeg(base64.b64decode(found["snapshot_jpeg"])).shape == (240, 320, 3)


async def test_a_url_that_sends_nothing_says_why_in_one_line(near: Client, tmp_path: Path) -> None:
    with camera(tmp_path, "refuses") as server:
        found = await body(await near.post("/v1/camera-tests", json={"url": server.url}))
    place = server.url.partition("@")[2]
    assert found["reason"] == f"rtsp://***@{place}: has no such stream; check the path in the URL"
    assert (found["ok"], found["snapshot_jpeg"]) == (False, None)
    gone = await body(await near.post("/v1/camera-tests", json={"url": server.url}))
    assert gone["reason"] == f"rtsp://***@{place}: connection refused"


async def test_a_snapshot_comes_from_a_fresh_connection(near: Client, db: Database, tmp_path: Path) -> None:
    with camera(tmp_path) as server:
        await body(await near.post("/v1/cameras", json={"name": "door", "url": server.url}), 201)
        shot = await near.get("/v1/cameras/door/snapshot.jpg")
        assert (shot.status, shot.content_type) == (200, "image/jpeg")
        assert decode_jpeg(await shot.read()).shape == (240, 320, 3)
    gone = await body(await near.get("/v1/cameras/door/snapshot.jpg"), 424)
    assert gone["error"]["message"].endswith(": connection refused")
    await body(await near.get("/v1/cameras/none/snapshot.jpg"), 404)


async def test_a_camera_that_was_added_at_the_machine_may_be_on_it(client: Client, db: Database, tmp_path: Path) -> None:
    with camera(tmp_path) as server:
        await CameraStore(db, SecretBox(db.vault)).add(CameraSpec(name="demo", url=server.url))
        assert (await client.get("/v1/cameras/demo/snapshot.jpg")).status == 200
        await body(await client.patch("/v1/cameras/demo", json={"region": "west"}))
        assert (await client.get("/v1/cameras/demo/snapshot.jpg")).status == 200
        await body(await client.patch("/v1/cameras/demo", json={"url": server.url}), 422)


# --- where FFmpeg is led -----------------------------------------------------------------------------------------------------------


class _Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        port = self.server.server_address[1]
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{port}/secret")
            self.end_headers()
            return
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/secret\n#EXT-X-ENDLIST\n"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(playlist.encode() if self.path.startswith("/list") else b"secret")

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def web_server() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}", server.asked  # type: ignore[attr-defined]
        server.shutdown()


@pytest.mark.parametrize("path", ["/redirect", "/list.m3u8"])
def test_neither_redirects_nor_playlists_lead_a_clients_url_on(path: str) -> None:
    with web_server() as (url, asked), pytest.raises(UnavailableError):
        probe_source(url + path, SourceOptions(allow=("localhost",), open_timeout_s=3, read_timeout_s=3))
    assert {where for where, _ in asked} == {path}
    assert {host for _, host in asked} == {url.partition("://")[2]}  # the name, though the address was connected to


def test_a_clients_url_is_judged_each_time_it_is_opened(tmp_path: Path) -> None:
    with camera(tmp_path) as server:
        with pytest.raises(AddressRefusedError, match=r"^127\.0\.0\.1: leads to a loopback address"):
            probe_source(server.url, SourceOptions(allow=("10.0.0.0/8",)), measure=False)
        assert server.clients == 0
        assert probe_source(server.url, SourceOptions(allow=("127.0.0.0/8",)), measure=False).info.codec == "h264"
