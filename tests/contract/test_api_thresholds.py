"""Thresholds over HTTP: set at five levels, explained, and followed."""

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.services import ApiServices
from core.ports import Database
from recognize.rules.follow import open_rulebook
from recognize.still import StillRecognizer
from sightings.watchlists import WatchlistStore
from tests.builders.api import ADMIN, PaperVision, Platform, services

ClientMaker = Callable[..., Awaitable[TestClient]]


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db)


async def ok(response: ClientResponse, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def refused(response: ClientResponse, status: int) -> str:
    assert response.status == status, await response.text()
    return (await response.json())["error"]["message"]


async def test_a_threshold_is_set_read_changed_and_deleted(client: TestClient) -> None:
    place = "/v1/thresholds/deployment/default"
    assert await refused(await client.get(place), 404) == "threshold deployment/default: none is set"
    response = await client.put(place, json={"fpir": 0.001})
    made = await ok(response)
    assert response.headers["ETag"] == '"v1"'
    assert (made["score"], made["far"], made["fpir"], made["version"], made["updated_by"]) == (None, None, 0.001, 1, "settings")
    assert (made["model"], made["collection"], made["references"]) == ("paper", "default", 0)
    assert {one["kind"]: round(one["fpir"], 6) for one in made["now"]} == {"single": 0.001, "track": 0.001}
    assert made["warning"] is None
    stale = await client.put(place, json={"score": 0.5}, headers={"If-Match": '"v7"'})
    assert await refused(stale, 412) == "threshold deployment/default: has version 1 by now, not 7; read it again"
    changed = await ok(await client.put(place, json={"score": 0.45}, headers={"If-Match": '"v1"'}))
    assert (changed["score"], changed["fpir"], changed["version"]) == (0.45, None, 2)
    assert [one["key"] for one in (await ok(await client.get("/v1/thresholds")))["thresholds"]] == ["default"]
    assert (await ok(await client.delete(place)))["version"] == 2
    assert (await client.get(place)).status == 404


@pytest.mark.parametrize(
    ("score", "warning"),
    [
        (0.05, "most strangers would be named: FPIR 98% for a single face in a gallery of this size"),
        (0.3, None),
        (0.15, "about one stranger in 4 would be named: FPIR 27.5% for a single face in a gallery of this size"),
        (1.0, "hardly anybody would be named: no two pictures of a face score 1"),
    ],
)
async def test_a_careless_threshold_is_taken_with_a_warning_in_words(client: TestClient, score: float, warning: str | None) -> None:
    made = await ok(await client.put("/v1/thresholds/deployment/default", json={"score": score}))
    assert made["warning"] == warning


@pytest.mark.parametrize(
    ("place", "body", "status", "message"),
    [
        ("deployment/default", {}, 422, "score, far, fpir: give one of them"),
        ("deployment/default", {"score": 0.5, "far": 0.01}, 422, "score, far, fpir: give one of them"),
        ("deployment/other", {"score": 0.5}, 404, "threshold deployment/other: the deployment's key is 'default'"),
        ("camera/nothing", {"score": 0.5}, 404, "camera 'nothing': there is none"),
        ("planet/earth", {"score": 0.5}, 404,
         "threshold level 'planet': there is none; the levels are deployment, collection, watchlist, camera, subject"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(client: TestClient, place: str, body: Any, status: int, message: str) -> None:
    assert await refused(await client.put(f"/v1/thresholds/{place}", json=body), status) == message


async def test_lists_go_on_from_a_cursor(client: TestClient, db: Database) -> None:
    for name in ("a", "b", "c"):
        await db.execute("insert into camera (name, url_encrypted, url_redacted) values ($1, '', '')", name)
        await ok(await client.put(f"/v1/thresholds/camera/{name}", json={"far": 0.001}))
    await ok(await client.put("/v1/thresholds/collection/default", json={"far": 0.001}))
    seen, cursor = [], ""
    while True:
        page = await ok(await client.get(f"/v1/thresholds?limit=2{cursor}"))
        seen += [f"{one['level']}/{one['key']}" for one in page["thresholds"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["collection/default", "camera/a", "camera/b", "camera/c"]
    assert len((await ok(await client.get("/v1/thresholds?level=camera")))["thresholds"]) == 3


async def test_the_threshold_that_applies_is_explained_level_by_level(client: TestClient, db: Database) -> None:
    subject_id = (await ok(await client.post("/v1/subjects", json={"name": "Ada"}), 201))["subject_id"]
    lists = WatchlistStore(db)
    for name, score in (("vip", 0.4), ("staff", 0.5)):
        await lists.add(name, collection="default")
        await lists.put(name, ["Ada"])
        await ok(await client.put(f"/v1/thresholds/watchlist/{name}", json={"score": score}))
    await db.execute("insert into camera (name, url_encrypted, url_redacted) values ('door', '', '')")
    ask = f"/v1/thresholds/effective?subject_id={subject_id}&camera=door"

    async def applied(query: str = ask) -> tuple[str, float]:
        told = await ok(await client.get(query))
        (applies,) = [one for one in told["looked"] if one["applies"]]
        assert (applies["level"], applies["means"]) == (told["level"], told["score"])
        return told["level"], told["score"]

    assert await applied("/v1/thresholds/effective") == ("settings", pytest.approx(0.3, abs=0.005))
    assert await applied() == ("watchlist", 0.5)
    await ok(await client.put("/v1/thresholds/deployment/default", json={"score": 0.31}))
    await ok(await client.put("/v1/thresholds/collection/default", json={"score": 0.32}))
    assert await applied() == ("watchlist", 0.5)
    assert await applied("/v1/thresholds/effective") == ("collection", 0.32)
    await ok(await client.put("/v1/thresholds/camera/door", json={"score": 0.33}))
    assert await applied() == ("camera", 0.33)
    await ok(await client.put(f"/v1/thresholds/subject/{subject_id.upper()}", json={"score": 0.2}))
    assert await applied() == ("subject", 0.2)
    assert await applied(ask + "&score=0.6") == ("request", 0.6)
    told = await ok(await client.get(ask + "&kind=track&fpir=0.1"))
    assert (told["kind"], told["level"], told["fpir"]) == ("track", "request", pytest.approx(0.1))
    assert [one["level"] for one in told["looked"]] == [
        "request", "subject", "camera", "watchlist", "watchlist", "collection", "deployment", "settings",
    ]  # fmt: skip
    assert [one["key"] for one in told["looked"][3:5]] == ["staff", "vip"]
    assert await refused(await client.get(ask + "&score=0.5&far=0.1"), 422) == "score, far, fpir: give one of them"
    absent = uuid.UUID(int=1)
    assert (await client.get(f"/v1/thresholds/effective?subject_id={absent}")).status == 404


async def test_a_threshold_set_over_http_is_in_force_within_a_second(db: Database, aiohttp_client: ClientMaker) -> None:
    async with open_rulebook(db) as book:
        platform, parts = Platform(), services(db)
        still = StillRecognizer(vision=PaperVision(), matcher=platform.matcher, policy=parts.policy, book=book)  # type: ignore[arg-type]
        client = await aiohttp_client(build_app(dataclasses.replace(parts, still=still, book=book)), headers=ADMIN)
        await ok(await client.put("/v1/thresholds/collection/default", json={"score": 0.77}))
        async with asyncio.timeout(1.0):
            while ("collection", "default") not in book.now.targets:  # noqa: ASYNC110 - it lies behind a connection
                await asyncio.sleep(0.005)
