"""Rates, quotas, CORS, and what grants leave to be seen."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from api.access.key_text import key_text, new_public_id, new_secret
from api.app import build_app
from api.services import ApiServices
from core.ports import Database
from core.settings import ApiSettings
from tests.builders.access import bearer, make_key
from tests.builders.api import ADMIN, services
from tests.builders.sightings import NOW_S, arrival

ClientMaker = Callable[..., Awaitable[TestClient]]
ORIGIN = "https://app.example"


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db, api=ApiSettings(anonymous_per_minute=60, cors_origins=(ORIGIN,)))


@pytest.fixture
async def client(behind: ApiServices, aiohttp_client: ClientMaker) -> TestClient:
    return await aiohttp_client(build_app(behind))


async def refused(response: ClientResponse, status: int) -> str:
    body = await response.json()
    assert response.status == status, body
    return str(body["error"]["message"])


# --- how often -----------------------------------------------------------------------------------------------------------------


async def test_a_key_asks_as_often_as_it_may_and_is_told_how_it_stands(client: TestClient, db: Database) -> None:
    key, other = await make_key(db, "viewer", rate_per_minute=12), await make_key(db, "viewer")
    first = await client.get("/v1/sightings", headers=bearer(key))
    assert {name: first.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")} == {
        "Limit": "2",
        "Remaining": "1",
        "Reset": "5",
    }
    assert (await client.get("/v1/sightings", headers=bearer(key))).status == 200
    third = await client.get("/v1/sightings", headers=bearer(key))
    assert await refused(third, 429) == "test viewer asks too often; wait a moment"
    assert (third.headers["Retry-After"], third.headers["RateLimit-Remaining"]) == ("5", "0")
    assert (await client.get("/v1/sightings", headers=bearer(other))).status == 200


async def test_a_quota_counts_on_all_servers_together(
    client: TestClient, behind: ApiServices, db: Database, aiohttp_client: ClientMaker
) -> None:
    key = await make_key(db, "viewer", requests_per_day=3)
    elsewhere = services(db)
    other = await aiohttp_client(build_app(elsewhere))
    for one in (client, other, other):
        assert (await one.get("/v1/sightings", headers=bearer(key))).status == 200
    for parts in (behind, elsewhere):
        await parts.access.usage.flush()
        parts.access.forget()
    for one in (client, other):
        response = await one.get("/v1/sightings", headers=bearer(key))
        assert "has made its 3 requests of today" in await refused(response, 429)
        assert 0 < int(response.headers["Retry-After"]) <= 86400
    await db.execute("update api_key_day set day = day - 1")
    behind.access.forget()
    assert (await client.get("/v1/sightings", headers=bearer(key))).status == 200


async def test_strangers_are_slowed_down_and_those_who_are_known_are_not(client: TestClient, db: Database) -> None:
    known = bearer(await make_key(db, "viewer"))
    assert (await client.get("/v1/sightings", headers=known)).status == 200
    answers = [await client.get("/v1/sightings", headers=bearer(key_text(new_public_id(), new_secret()))) for _ in range(14)]
    assert {one.status for one in answers[:10]} == {401}
    assert {one.status for one in answers[11:]} == {429}
    assert (await client.get("/v1/sightings")).status == 429
    assert (await client.get("/v1/sightings", headers=known)).status == 200
    assert (await client.get("/v1/sightings", headers=ADMIN)).status == 200
    assert (await client.get("/healthz")).status == 200


async def test_strangers_do_not_fill_the_audit(client: TestClient, db: Database) -> None:
    for _ in range(30):
        await client.get("/v1/sightings")
    assert (await db.fetch("select count(*) from audit where outcome = 401"))[0]["count"] == 1


# --- other people's web pages --------------------------------------------------------------------------------------------------


async def test_a_listed_site_may_use_keys_and_nobody_else_may(client: TestClient, db: Database) -> None:
    key = bearer(await make_key(db))
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = await client.options("/v1/subjects", headers=asks)
    assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (204, ORIGIN)
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    assert {"Authorization", "X-Api-Key", "X-Purpose"} <= set(allowed.headers["Access-Control-Allow-Headers"].split(", "))
    made = await client.post("/v1/subjects", json={"name": "Ada"}, headers=key | {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"})
    assert (made.status, made.headers["Access-Control-Allow-Origin"], made.headers["Vary"]) == (201, ORIGIN, "Origin")
    for origin in ("https://app.example.evil", "http://app.example", "https://evil.example", "null"):
        denied = await client.options("/v1/subjects", headers=asks | {"Origin": origin})
        assert denied.status in (401, 403, 405)
        assert "Access-Control-Allow-Origin" not in denied.headers
        assert (await client.post("/v1/subjects", json={"name": "Eve"}, headers=key | {"Origin": origin})).status == 403


# --- grants --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def seen(behind: ApiServices, db: Database) -> dict[str, str]:
    """Sightings at two cameras, of which one is in the group ``lobby``; returns camera -> sighting id."""
    for name, groups in (("door", ["lobby"]), ("vault", ["cellar"])):
        await db.execute("insert into camera (name, url_encrypted, url_redacted, groups) values ($1, '', '', $2)", name, groups)
    stored = await behind.sightings.upsert(
        [arrival("a", subject="alice", camera="door"), arrival("b", subject="bob", camera="vault")], now_s=NOW_S
    )
    return {one.sighting.camera: one.sighting.sighting_id for one in stored}


async def get(client: TestClient, path: str, headers: dict[str, str]) -> Any:
    response = await client.get(path, headers=headers)
    assert response.status == 200, await response.text()
    return await response.json()


async def test_only_granted_cameras_are_seen_and_others_are_as_if_not_there(client: TestClient, db: Database, seen: dict[str, str]) -> None:
    guard = bearer(await make_key(db, "operator", camera_groups=frozenset(("lobby",))))
    assert [one["camera"] for one in (await get(client, "/v1/sightings", guard))["sightings"]] == ["door"]
    assert [one["camera"] for one in (await get(client, "/v1/episodes", guard))["episodes"]] == ["door"]
    assert (await get(client, "/v1/sightings?camera=vault", guard))["sightings"] == []
    assert (await get(client, f"/v1/sightings/{seen['door']}", guard))["camera"] == "door"
    absent = "00000000-0000-4000-8000-000000000000"
    for suffix in ("", "/thumbnail.jpg"):
        foreign = await refused(await client.get(f"/v1/sightings/{seen['vault']}{suffix}", headers=guard), 404)
        assert foreign.replace(seen["vault"], "") == (
            await refused(await client.get(f"/v1/sightings/{absent}{suffix}", headers=guard), 404)
        ).replace(absent, "")
        assert (await client.get(f"/v1/sightings/{seen['door']}{suffix}", headers=guard)).status == 200
    nobody = bearer(await make_key(db, "operator", camera_groups=frozenset()))
    assert (await get(client, "/v1/sightings", nobody))["sightings"] == []


async def test_what_was_compared_with_another_tenant_s_collection_is_not_there(
    client: TestClient, db: Database, seen: dict[str, str]
) -> None:
    tenant = bearer(await make_key(db, "operator", collections=frozenset(("tenant",))))
    assert (await get(client, "/v1/sightings", tenant))["sightings"] == []
    assert (await get(client, "/v1/episodes", tenant))["episodes"] == []
    assert (await client.get(f"/v1/sightings/{seen['door']}", headers=tenant)).status == 404


async def test_ids_of_another_tenant_s_subjects_can_t_be_guessed(client: TestClient, db: Database) -> None:
    ours = await (await client.post("/v1/subjects", json={"name": "Ada", "collection": "ours"}, headers=ADMIN)).json()
    theirs = bearer(await make_key(db, collections=frozenset(("theirs",))))
    absent = "00000000-0000-4000-8000-000000000000"
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "Eve"}),
        ("DELETE", "", None),
        ("GET", "/references", None),
        ("POST", "/references", None),
    ):
        answers = []
        for key in (ours["subject_id"], absent):
            message = await refused(await client.request(method, f"/v1/subjects/{key}{suffix}", json=body, headers=theirs), 404)
            answers.append(message.replace(key, ""))
        assert answers[0] == answers[1], (method, suffix)
    assert (await client.post("/v1/subjects", json={"name": "Eve", "collection": "ours"}, headers=theirs)).status == 404
    assert (await client.get("/v1/subjects?collection=ours", headers=theirs)).status == 404
    assert json.loads(await (await client.get(f"/v1/subjects/{ours['subject_id']}", headers=ADMIN)).text())["name"] == "Ada"
