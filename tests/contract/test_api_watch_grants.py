"""Alerts, watchlists, cases and cameras as keys with grants see them: what is not granted answers like what does not exist."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from api.app import build_app
from core.ports import Database
from sightings.store import SightingStore
from tests.builders.api import ADMIN, services
from tests.builders.sightings import ALICE, NOW_S, arrival

Client = TestClient[Any, Any]


@pytest.fixture
async def client(aiohttp_client: Callable[..., Awaitable[Client]], db: Database) -> Client:
    """Return an administrator's client; there are two cameras and watchlists, each with an alert, and a case with both sightings."""
    await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', 'Alice')", uuid.UUID(ALICE))
    client = await aiohttp_client(build_app(services(db)), headers=ADMIN)
    for name, camera, group in (("banned", "door", "north"), ("guests", "hall", "south")):
        await client.post("/v1/cameras", json={"name": camera, "url": "rtsp://192.168.1.2/1", "groups": [group]})
        await client.post("/v1/watchlists", json={"name": name, "camera_groups": [group]})
        await client.post(f"/v1/watchlists/{name}/subjects", json={"subject_ids": [ALICE]})
    arrivals = [arrival("a", subject="alice"), arrival("b", subject="alice", camera="hall")]
    await SightingStore(db, episode_gap=timedelta(seconds=30)).record(arrivals, now_s=NOW_S)
    case = await (await client.post("/v1/cases", json={"title": "Break-in"})).json()
    ids = [one.sighting.sighting_id for one in arrivals]
    await client.post(f"/v1/cases/{case['case_id']}/sightings", json={"sighting_ids": ids})
    return client


async def key(client: Client, role: str, **grants: Any) -> dict[str, str]:
    """Return the headers of a new key."""
    made = await client.post("/v1/keys", json={"name": "a key", "role": role, **grants})
    assert made.status == 201, await made.text()
    return {"Authorization": f"Bearer {(await made.json())['key']}"}


async def status(client: Client, who: dict[str, str], method: str, path: str, json: Any = None) -> int:
    return (await client.request(method, path, json=json, headers=who)).status


async def test_a_key_sees_its_watchlists_cameras_and_collections_only(client: Client) -> None:
    async def got(path: str, who: dict[str, str] | None = None) -> Any:
        return await (await client.get(path, headers=who)).json()

    everything = (await got("/v1/alerts"))["alerts"]
    assert {one["watchlist"] for one in everything} == {"banned", "guests"}
    hidden = next(one["alert_id"] for one in everything if one["watchlist"] == "guests")
    north = await key(client, "operator", watchlists=["banned"], camera_groups=["north"])
    (alert,) = (await got("/v1/alerts", north))["alerts"]
    assert alert["camera"] == "door"
    assert (await got("/v1/alerts/counts", north))["new"] == 1
    assert [one["name"] for one in (await got("/v1/watchlists", north))["watchlists"]] == ["banned"]
    assert [one["name"] for one in (await got("/v1/cameras", north))["cameras"]] == ["door"]
    (case,) = (await got("/v1/cases", north))["cases"]
    assert case["sightings"] == 1
    assert [one["camera"] for one in (await got(f"/v1/cases/{case['case_id']}/sightings", north))["sightings"]] == ["door"]
    for path in (f"/v1/alerts/{hidden}", "/v1/watchlists/guests", "/v1/watchlists/guests/subjects", "/v1/cameras/hall"):
        absent = path[:-4] + "dead" if "alerts" in path else path.replace("guests", "none").replace("hall", "none")
        assert await status(client, north, "GET", path) == await status(client, north, "GET", absent) == 404
    assert await status(client, north, "POST", f"/v1/alerts/{hidden}/acknowledge") == 404
    assert await status(client, north, "POST", f"/v1/alerts/{alert['alert_id']}/acknowledge") == 200
    assert await status(client, north, "GET", "/v1/cameras/hall/snapshot.jpg") == 404
    staff = await key(client, "operator", collections=["staff"])
    assert (await got("/v1/alerts", staff))["alerts"] == (await got("/v1/cases", staff))["cases"] == []
    assert await status(client, staff, "GET", f"/v1/cases/{case['case_id']}/export.zip") == 404


async def test_roles_read_or_act_or_manage(client: Client) -> None:
    (alert, *_) = (await (await client.get("/v1/alerts")).json())["alerts"]
    changes = [
        ("POST", f"/v1/alerts/{alert['alert_id']}/acknowledge", None, {"viewer": 403, "operator": 200, "service": 403, "enroller": 403}),
        ("POST", "/v1/cases", {"title": "x"}, {"viewer": 403, "operator": 201, "service": 403, "enroller": 403}),
        ("PATCH", "/v1/watchlists/banned", {"sound": "chime"}, {"viewer": 403, "operator": 403, "service": 403, "enroller": 403}),
        ("PATCH", "/v1/cameras/door", {"enabled": False}, {"viewer": 403, "operator": 403, "service": 403, "enroller": 403}),
        ("POST", "/v1/camera-tests", {"url": "rtsp://192.168.1.2/1"}, {"viewer": 403, "operator": 403, "service": 403, "enroller": 403}),
        ("GET", "/v1/alerts", None, {"viewer": 200, "operator": 200, "service": 200, "enroller": 403}),
        ("GET", "/v1/cases", None, {"viewer": 200, "operator": 200, "service": 403, "enroller": 403}),
    ]
    for role in ("viewer", "operator", "service", "enroller"):
        who = await key(client, role)
        given = {(method, path): await status(client, who, method, path, json) for method, path, json, _ in changes}
        assert given == {(method, path): expected[role] for method, path, _, expected in changes}


async def test_who_is_granted_groups_keeps_cameras_within_them(client: Client) -> None:
    north = await key(client, "admin", camera_groups=["north"])
    camera = {"name": "yard", "url": "rtsp://192.168.1.3/1"}
    for groups, expected in (([], 422), (["south"], 422), (["north", "south"], 422), (["north"], 201)):
        assert await status(client, north, "POST", "/v1/cameras", camera | {"groups": groups}) == expected
    assert await status(client, north, "PATCH", "/v1/cameras/yard", {"groups": ["south"]}) == 422
    assert await status(client, north, "DELETE", "/v1/cameras/hall") == 404
