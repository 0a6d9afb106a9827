"""API keys: made, narrowed, rotated, revoked; nobody gives more than they hold."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientResponse, WSMsgType
from aiohttp.test_utils import TestClient

from api.access.authenticator import Authenticator
from api.access.key_store import KeyStore
from api.access.key_text import KeyText, key_text, new_secret
from api.app import build_app
from api.services import ApiServices
from core.metrics import Metrics
from core.ports import Database
from core.settings import Settings
from tests.builders.access import bearer, make_key
from tests.builders.api import ADMIN, services

ClientMaker = Callable[..., Awaitable[TestClient]]


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db)


@pytest.fixture
async def client(behind: ApiServices, aiohttp_client: ClientMaker) -> TestClient:
    return await aiohttp_client(build_app(behind))


@pytest.fixture
async def replica(db: Database, aiohttp_client: ClientMaker) -> AsyncIterator[TestClient]:
    """A second API process on the same database, whose services run."""
    other = services(db)
    running = [asyncio.create_task(run()) for run in (other.access.run, other.events.run)]
    yield await aiohttp_client(build_app(other))
    for task in running:
        task.cancel()
    await asyncio.wait(running)


async def ok(response: ClientResponse, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def refused(response: ClientResponse, status: int) -> str:
    body = await response.json()
    assert response.status == status, body
    return str(body["error"]["message"])


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(client: TestClient, db: Database) -> None:
    made = await ok(await client.post("/v1/keys", json={"name": "gate", "role": "viewer"}, headers=ADMIN), 201)
    parsed = KeyText.parse(made["key"])
    assert parsed is not None
    assert made["key"].startswith(made["prefix"] + "_")
    assert made["created_by"] == "settings"
    shown = await ok(await client.get(f"/v1/keys/{made['key_id']}", headers=ADMIN))
    assert "key" not in shown
    (row,) = await db.fetch("select to_jsonb(k)::text as everything, secret_sha256 from api_key k")
    assert made["key"][16:] not in row["everything"]
    assert row["secret_sha256"] == parsed.secret_sha256
    assert (await ok(await client.get("/v1/sightings", headers=bearer(made["key"])))) == {"sightings": [], "next_cursor": None}
    assert (await client.get("/v1/sightings", headers={"X-Api-Key": made["key"]})).status == 200


async def test_wrong_missing_expired_revoked_and_foreign_keys_are_refused_alike(client: TestClient, db: Database) -> None:
    good = await make_key(db)
    other = await make_key(db)
    expired = await make_key(db)
    await db.execute("update api_key set expires_at = now() - interval '1 second' where public_id = $1", expired.key.public_id)
    revoked = await make_key(db)
    await KeyStore(db).revoke(revoked.key.key_id)
    answers = set()
    for text in (
        key_text(good.key.public_id, new_secret()),
        key_text("AAAAAAAAAAAA", new_secret()),
        good.text[:16] + other.text[16:],
        expired.text,
        revoked.text,
    ):
        answers.add(await refused(await client.get("/v1/sightings", headers=bearer(text)), 401))
    assert answers == {"the key is not known here, or has expired, or is revoked"}
    for headers in ({}, bearer("sl_short"), bearer(good.text + "x"), {"Authorization": f"Basic {good.text}"}, bearer("")):
        assert (await client.get("/v1/sightings", headers=headers)).status == 401
    assert (await client.get(f"/v1/sightings?key={good.text}&api_key={good.text}&token={good.text}")).status == 401
    assert (await client.get("/v1/sightings", headers=bearer(good))).status == 200


async def test_a_key_gives_no_more_than_it_holds(client: TestClient, db: Database) -> None:
    narrow = bearer(await make_key(db, scopes=frozenset(("access.write", "search")), collections=frozenset(("a",))))
    for body in (
        {"name": "x", "role": "viewer", "collections": ["a"]},
        {"name": "x", "role": "admin", "collections": ["a"]},
        {"name": "x", "role": "admin", "scopes": ["search"]},
        {"name": "x", "role": "admin", "scopes": ["search"], "collections": ["b"]},
        {"name": "x", "role": "admin", "scopes": ["search", "history"], "collections": ["a"]},
    ):
        assert "nobody can give more" in await refused(await client.post("/v1/keys", json=body, headers=narrow), 403)
        user = {"name": "u", "password": "x" * 12} | {key: body[key] for key in ("role", "collections") if key in body}
        assert "nobody can give more" in await refused(await client.post("/v1/users", json=user, headers=narrow), 403)
    made = await ok(
        await client.post("/v1/keys", json={"name": "x", "role": "enroller", "scopes": ["search"], "collections": ["a"]}, headers=narrow),
        201,
    )
    for change in ({"collections": None}, {"scopes": None}, {"scopes": ["search", "recognize"]}, {"collections": ["a", "b"]}):
        assert "nobody can give more" in await refused(await client.patch(f"/v1/keys/{made['key_id']}", json=change, headers=narrow), 403)
    assert (await ok(await client.patch(f"/v1/keys/{made['key_id']}", json={"name": "y"}, headers=narrow)))["name"] == "y"


async def test_a_key_that_holds_more_is_not_there(client: TestClient, db: Database) -> None:
    strong = await make_key(db)
    narrow = bearer(await make_key(db, scopes=frozenset(("access.write",))))
    path = f"/v1/keys/{strong.key.key_id}"
    absent = "/v1/keys/00000000-0000-4000-8000-000000000000"
    for method, body, suffix in (("GET", None, ""), ("PATCH", {"name": "z"}, ""), ("DELETE", None, ""), ("POST", {}, "/rotate")):
        foreign = await refused(await client.request(method, path + suffix, json=body, headers=narrow), 404)
        nobody = await refused(await client.request(method, absent + suffix, json=body, headers=narrow), 404)
        assert foreign.replace(path[9:], "") == nobody.replace(absent[9:], "")
    listed = await ok(await client.get("/v1/keys", headers=narrow))
    assert [key["name"] for key in listed["keys"]] == ["test admin"]
    assert listed["keys"][0]["permissions"] == ["access.write"]


async def test_scopes_that_the_role_does_not_have_make_no_sense(client: TestClient) -> None:
    response = await client.post("/v1/keys", json={"name": "x", "role": "viewer", "scopes": ["subjects.erase"]}, headers=ADMIN)
    assert await refused(response, 422) == "scopes: the role viewer does not have subjects.erase"


@pytest.mark.parametrize("time", ["2020-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_key_does_not_begin_expired(client: TestClient, time: str) -> None:
    assert "expires_at" in await refused(
        await client.post("/v1/keys", json={"name": "x", "role": "viewer", "expires_at": time}, headers=ADMIN), 422
    )


async def test_rotation_keeps_the_old_secret_for_a_while_and_no_older_one(client: TestClient, db: Database) -> None:
    first = await make_key(db, "viewer")
    path = f"/v1/keys/{first.key.key_id}/rotate"
    second = (await ok(await client.post(path, json={"grace_s": 60}, headers=ADMIN)))["key"]
    assert second[:16] == first.text[:16]
    for text in (first.text, second):
        assert (await client.get("/v1/sightings", headers=bearer(text))).status == 200
    third = (await ok(await client.post(path, json={"grace_s": 0}, headers=ADMIN)))["key"]
    assert [(await client.get("/v1/sightings", headers=bearer(text))).status for text in (first.text, second, third)] == [401, 401, 200]


async def test_a_change_names_the_version_it_was_made_to(client: TestClient, db: Database) -> None:
    path = f"/v1/keys/{(await make_key(db, 'viewer')).key.key_id}"
    tag = (await client.get(path, headers=ADMIN)).headers["ETag"]
    changed = await client.patch(path, json={"requests_per_day": 5}, headers=ADMIN | {"If-Match": tag})
    assert (await ok(changed))["requests_per_day"] == 5
    assert "read it again" in await refused(await client.patch(path, json={"name": "x"}, headers=ADMIN | {"If-Match": tag}), 412)
    await client.delete(path, headers=ADMIN)
    assert "revoked" in await refused(await client.patch(path, json={"name": "x"}, headers=ADMIN), 409)


async def test_keys_are_listed_page_by_page(client: TestClient, db: Database) -> None:
    made = [(await make_key(db, "viewer")).key.key_id for _ in range(3)]
    first = await ok(await client.get("/v1/keys?limit=2", headers=ADMIN))
    rest = await ok(await client.get("/v1/keys", params={"limit": 2, "cursor": first["next_cursor"]}, headers=ADMIN))
    assert [key["key_id"] for key in first["keys"] + rest["keys"]] == made[::-1]
    assert rest["next_cursor"] is None
    for path in ("/v1/keys", "/v1/users"):
        assert "not one that this server gave out" in await refused(await client.get(f"{path}?cursor=x", headers=ADMIN), 422)


async def test_a_revocation_reaches_other_replicas_within_a_second_and_cuts_streams(
    client: TestClient, replica: TestClient, db: Database
) -> None:
    key = await make_key(db, "viewer")
    assert (await replica.get("/v1/sightings", headers=bearer(key))).status == 200
    async with replica.get("/v1/events", headers=bearer(key)) as stream, replica.ws_connect("/v1/events/ws", headers=bearer(key)) as socket:
        assert (stream.status, (await socket.receive_json())["type"]) == (200, "ready")
        loop = asyncio.get_running_loop()
        await client.delete(f"/v1/keys/{key.key.key_id}", headers=ADMIN)
        revoked_s = loop.time()
        while (await replica.get("/v1/sightings", headers=bearer(key))).status == 200:
            pass  # each turn is a request
        assert loop.time() - revoked_s < 1.0
        with pytest.raises((ClientPayloadError, ConnectionError)):
            async with asyncio.timeout(3):
                await stream.content.read()
        async with asyncio.timeout(3):
            assert (await socket.receive()).type in (WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR)


async def test_without_notifications_nothing_is_believed_for_a_second(db: Database) -> None:
    now_s = 0.0
    access = Authenticator(db, Settings(), Metrics(), clock=lambda: now_s)
    key = await make_key(db)
    assert (await access.of_credential(key.text)).principal.role == "admin"
    await db.execute("update api_key set revoked_at = now()")
    assert (await access.of_credential(key.text)).principal.role == "admin"  # no query for each request
    now_s = 0.999
    with pytest.raises(Exception, match="revoked"):
        await access.of_credential(key.text)


async def test_last_use_and_requests_are_written_in_batches(client: TestClient, behind: ApiServices, db: Database) -> None:
    key = await make_key(db, "viewer")
    for _ in range(3):
        await client.get("/v1/sightings", headers=bearer(key))
    assert (await KeyStore(db).get(key.key.key_id)).last_used_at is None
    await behind.access.usage.flush()
    first = await KeyStore(db).get(key.key.key_id)
    assert (first.used_today, first.last_used_at is not None) == (3, True)
    await client.get("/v1/sightings", headers=bearer(key))
    await behind.access.usage.flush()
    second = await KeyStore(db).get(key.key.key_id)
    assert (second.used_today, second.last_used_at) == (4, first.last_used_at)  # at most once a minute


async def test_one_first_key_even_if_many_start_at_once(db: Database) -> None:
    made = await asyncio.gather(*(KeyStore(db).create_first() for _ in range(8)))
    (first,) = [one for one in made if one is not None]
    assert first.key.principal.permissions == (await make_key(db)).key.principal.permissions
    await KeyStore(db).revoke(first.key.key_id)
    assert await KeyStore(db).create_first() is None
