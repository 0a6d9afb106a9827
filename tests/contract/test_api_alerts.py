"""Watchlists and alerts over HTTP, with a real PostgreSQL."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from api.app import build_app
from core.ports import Database
from sightings.alerts import AlertStore
from sightings.forgetting import forget_subject
from sightings.scope import Scope
from sightings.store import SightingStore
from sightings.watchlists import Policy, WatchlistStore
from tests.builders.api import ADMIN, services
from tests.builders.sightings import ALICE, BOB, NOW_S, arrival

Client = TestClient[Any, Any]


@pytest.fixture
async def client(aiohttp_client: Callable[..., Awaitable[Client]], db: Database) -> Client:
    for subject_id, name in ((ALICE, "Alice"), (BOB, "Bob")):
        await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', $2)", uuid.UUID(subject_id), name)
    return await aiohttp_client(build_app(services(db)), headers=ADMIN)


async def body(response: ClientResponse, status: int = 200) -> dict[str, Any]:
    found: dict[str, Any] = await response.json()
    assert response.status == status, found
    return found


async def alert_of(client: Client, db: Database, *, first_s: float = 0.0, acknowledgement: bool = True) -> str:
    """Return the id of a new alert."""
    lists = WatchlistStore(db)
    if not await lists.watchlists():
        await lists.add("banned", collection="default", policy=Policy(acknowledgement=acknowledgement, sound="siren"))
        await lists.put("banned", ["Alice"])
    store = SightingStore(db, episode_gap=timedelta(seconds=30))
    (alert,) = (await store.record([arrival(f"t{first_s}", first_s=first_s, subject="alice")], now_s=NOW_S)).alerts
    return alert.alert_id


async def test_a_watchlist_from_its_making_to_its_end(client: Client, db: Database) -> None:
    hours = [{"days": ["mon", "fri"], "from": "22:00", "to": "06:00"}]
    new = {"name": "banned", "sound": "alarm", "camera_groups": ["north", "north"], "active_hours": hours, "time_zone": "Europe/Berlin"}
    response = await client.post("/v1/watchlists", json=new)
    made = await body(response, 201)
    assert response.headers["Location"] == "/v1/watchlists/banned"
    assert made["active_hours"] == hours
    assert (made["camera_groups"], made["colour"], made["version"], made["acknowledgement"]) == (["north"], "#d32f2f", 1, True)
    assert (await body(await client.post("/v1/watchlists", json=new), 409))["error"]["code"] == "conflict"
    etag = response.headers["ETag"]
    assert made["threshold"] is None
    await db.execute("insert into threshold (level, key, far, updated_by) values ('watchlist', 'banned', 0.0001, 'x')")
    assert (await body(await client.get("/v1/watchlists/banned")))["threshold"] == {"far": 0.0001}
    changed = await client.patch("/v1/watchlists/banned", json={"description": "house bans"}, headers={"If-Match": etag})
    assert (await body(changed))["description"] == "house bans"
    assert (await body(changed))["active_hours"] == hours
    late = await client.patch("/v1/watchlists/banned", json={"enabled": False}, headers={"If-Match": etag})
    assert (await body(late, 412))["error"]["message"] == "watchlist 'banned': was changed meanwhile; read it again"
    assert (await body(await client.post("/v1/watchlists/banned/subjects", json={"subject_ids": [ALICE, BOB]})))["added"] == 2
    assert (await body(await client.post("/v1/watchlists/banned/subjects", json={"subject_ids": [ALICE]}))) == {"added": 0, "subjects": 2}
    first = await body(await client.get("/v1/watchlists/banned/subjects?limit=1"))
    rest = await body(await client.get("/v1/watchlists/banned/subjects", params={"limit": "1", "cursor": first["next_cursor"]}))
    assert [one["subject"] for one in first["subjects"] + rest["subjects"]] == ["Alice", "Bob"]
    assert rest["next_cursor"] is None
    assert await body(await client.delete(f"/v1/watchlists/banned/subjects/{BOB}")) == {"removed": True}
    assert await body(await client.delete(f"/v1/watchlists/banned/subjects/{BOB}")) == {"removed": False}
    await body(await client.delete("/v1/watchlists/banned/subjects/Alice"), 404)
    await body(await client.delete("/v1/watchlists/banned"))
    await body(await client.get("/v1/watchlists/banned"), 404)


@pytest.mark.parametrize(
    ("path", "new", "status"),
    [
        ("", {"name": "a b"}, 400),
        ("", {"name": "x", "colour": "red"}, 400),
        ("", {"name": "x", "active_hours": [{"days": [], "from": "08:00", "to": "09:00"}]}, 400),
        ("", {"name": "x", "active_hours": [{"days": ["mon"], "from": "24:00", "to": "09:00"}]}, 400),
        ("", {"name": "x", "time_zone": "Mars/Base"}, 422),
        ("", {"name": "x", "collection": "none"}, 404),
        ("/banned/subjects", {"subject_ids": ["Alice"]}, 400),
        ("/banned/subjects", {"subject_ids": [str(uuid.UUID(int=9))]}, 404),
        ("?cursor=x", None, 405),
    ],
)
async def test_watchlists_that_can_not_be_are_refused(client: Client, path: str, new: Any, status: int) -> None:
    await client.post("/v1/watchlists", json={"name": "banned"})
    if new is None:
        await body(await client.get(f"/v1/watchlists{path}"), 422)
    else:
        await body(await client.post(f"/v1/watchlists{path}", json=new), status)


async def test_an_alert_goes_its_way_and_keeps_who_did_what(client: Client, db: Database) -> None:
    alert_id = await alert_of(client, db)
    url = f"/v1/alerts/{alert_id}"
    response = await client.get(url)
    new = await body(response)
    assert (new["state"], new["subject"], new["sound"], new["history"], new["kind"]) == ("new", "Alice", "siren", [], "match")
    assert new["thumbnail"] == f"/v1/sightings/{new['sighting_id']}/thumbnail.jpg"
    refused = await body(await client.post(f"{url}/close"), 409)
    assert refused["error"]["message"] == f"alert {alert_id}: watchlist banned wants it acknowledged before it is closed"
    seen = await client.post(f"{url}/acknowledge", headers={"If-Match": response.headers["ETag"]})
    assert ((await body(seen))["state"], (await body(seen))["version"], (await body(seen))["acknowledged_by"]) == (
        "acknowledged",
        2,
        "administrator",
    )
    again = await body(await client.post(f"{url}/acknowledge", headers={"If-Match": response.headers["ETag"]}))
    assert (again["version"], len(again["history"])) == (2, 1)  # sent again: nothing happens again
    late = await client.post(f"{url}/confirm", headers={"If-Match": response.headers["ETag"]})
    assert (await body(late, 412))["error"]["code"] == "stale"
    assert (await body(await client.post(f"{url}/assign", json={"assignee": "guard-2"})))["assigned_to"] == "guard-2"
    assert (await body(await client.post(f"{url}/comments", json={"text": "Her sister?"}), 201))["version"] == 4
    assert (await body(await client.post(f"{url}/reject")))["state"] == "rejected"
    wrong = await body(await client.post(f"{url}/confirm"), 409)
    assert wrong["error"]["message"] == f"alert {alert_id}: is rejected; to confirm it, it must be one of: acknowledged, new"
    assert (await body(await client.post(f"{url}/reopen")))["state"] == "acknowledged"
    assert (await body(await client.post(f"{url}/confirm")))["state"] == "confirmed"
    closed = await body(await client.post(f"{url}/close"))
    assert [one["action"] for one in closed["history"]] == [
        "acknowledge",
        "assign",
        "comment",
        "reject",
        "reopen",
        "confirm",
        "close",
    ]
    assert (closed["history"][2]["comment"], closed["history"][0]["actor"]) == ("Her sister?", "settings")
    assert (await body(await client.post(f"{url}/assign", json={"assignee": None}), 409))["error"]["code"] == "conflict"
    told = await db.fetch("select revision from event where kind = 'alert' and key = $1 order by event_id", alert_id)
    assert [row["revision"] for row in told] == list(range(1, closed["version"] + 1))


async def test_two_operators_at_once_never_overwrite_each_other(client: Client, db: Database) -> None:
    url = f"/v1/alerts/{await alert_of(client, db)}"
    etag = (await client.get(url)).headers["ETag"]
    acts = ["confirm", "reject"] * 5
    done = await asyncio.gather(*(client.post(f"{url}/{act}", headers={"If-Match": etag}) for act in acts))
    won = {act for act, response in zip(acts, done, strict=True) if response.status == 200}
    assert len(won) == 1
    assert {response.status for response in done} == {200, 412}
    detail = await body(await client.get(url))
    assert [one["action"] for one in detail["history"]] == list(won)


async def test_lists_filters_and_counts(client: Client, db: Database) -> None:
    ids = [await alert_of(client, db, first_s=100.0 * n) for n in range(4)]
    await client.post(f"/v1/alerts/{ids[0]}/acknowledge")
    await client.post(f"/v1/alerts/{ids[1]}/confirm")
    await client.post(f"/v1/alerts/{ids[0]}/assign", json={"assignee": "guard-2"})

    async def found(query: str) -> set[int]:
        page = await body(await client.get(f"/v1/alerts?{query}"))
        return {ids.index(one["alert_id"]) for one in page["alerts"]}

    assert await found("") == {0, 1, 2, 3}
    assert await found("state=new") == await found("unacknowledged=true") == {2, 3}
    assert await found("assigned_to=guard-2") == {0}
    assert await found("watchlist=banned&camera=door&subject=Alice") == await found(f"subject={ALICE}") == {0, 1, 2, 3}
    assert await found("watchlist=none") == await found("camera=hall") == await found("subject=Bob") == set()
    assert await found("since=1970-01-01T00:00:00Z&until=1971-01-01T00:00:00Z") == set()
    counts = await body(await client.get("/v1/alerts/counts"))
    assert counts == {"new": 2, "acknowledged": 1, "confirmed": 1, "rejected": 0, "closed": 0, "unacknowledged": 2}
    first = await body(await client.get("/v1/alerts?limit=3"))
    rest = await body(await client.get("/v1/alerts", params={"limit": "3", "cursor": first["next_cursor"]}))
    assert len({one["alert_id"] for one in first["alerts"] + rest["alerts"]}) == 4
    assert (await body(await client.get("/v1/alerts?cursor=zz"), 422))["error"]["code"] == "unprocessable"
    await body(await client.get("/v1/alerts?state=gone"), 400)
    await body(await client.get(f"/v1/alerts/{uuid.uuid4()}"), 404)
    await body(await client.post("/v1/alerts/none/confirm"), 404)


async def test_without_acknowledgement_an_alert_may_be_closed_at_once(client: Client, db: Database) -> None:
    alert_id = await alert_of(client, db, acknowledgement=False)
    assert (await body(await client.post(f"/v1/alerts/{alert_id}/close")))["state"] == "closed"
    assert (await body(await client.get("/v1/alerts/counts")))["unacknowledged"] == 0


async def test_erasure_takes_what_was_said_too_and_comments_are_sealed_at_rest(client: Client, db: Database) -> None:
    alert_id = await alert_of(client, db)
    await client.post(f"/v1/alerts/{alert_id}/comments", json={"text": "Alice, again"})
    (row,) = await db.fetch("select comment from alert_history where comment is not null")
    assert b"Alice" not in row["comment"]
    await forget_subject(db, ALICE)
    detail = await body(await client.get(f"/v1/alerts/{alert_id}"))
    assert (detail["subject"], detail["subject_id"], detail["history"][0]["comment"]) == (None, None, None)


async def test_what_is_not_granted_is_not_there(client: Client, db: Database) -> None:
    alert_id = await alert_of(client, db)
    await db.execute("insert into camera (name, url_encrypted, url_redacted, groups) values ('door', '', '', '{north}')")
    store = AlertStore(db)

    async def seen(**grants: frozenset[str]) -> int:
        scope = Scope(**grants)
        page, _ = await store.query(scope=scope, limit=9)
        assert sum((await store.counts(scope=scope)).values()) == len(page)
        return len(page)

    assert await seen(collections=frozenset(("default",)), watchlists=frozenset(("banned",)), camera_groups=frozenset(("north",))) == 1
    assert await seen(collections=frozenset(("other",))) == 0
    assert await seen(watchlists=frozenset()) == 0
    assert await seen(camera_groups=frozenset(("south",))) == 0
    lists = WatchlistStore(db)
    assert [one.name for one in await lists.watchlists(Scope(watchlists=frozenset(("other",))))] == []
    assert [one.name for one in await lists.watchlists(Scope(collections=frozenset(("default",))))] == ["banned"]
    assert alert_id
