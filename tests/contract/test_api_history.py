"""Search of the past over HTTP: exact, up to date, honest about what is not there yet, and silent about what is erased."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.history.follow import open_history
from api.services import ApiServices
from core.ports import Database
from core.schema import Array
from core.types import F32
from sightings.forgetting import forget_subject
from sightings.record import Arrival
from tests.builders.api import ADMIN, DIMENSIONS, MODEL, picture, services
from tests.builders.sightings import ALICE, NOW_S, arrival

ClientMaker = Callable[..., Awaitable[TestClient]]


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db)


def unit(*values: float) -> F32:
    vector = np.array(values, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def seen(track: str, vector: F32, **changes: Any) -> Arrival:
    return arrival(track, **({"model": MODEL, "embedding": Array.pack(vector)} | changes))


def body(vector: F32, **more: Any) -> dict[str, Any]:
    return {"embedding": base64.b64encode(vector.tobytes()).decode(), "model": MODEL, "threshold": 0.8, **more}


async def ok(response: ClientResponse) -> Any:
    assert response.status == 200, await response.text()
    return await response.json()


async def tracks(client: TestClient, vector: F32, **more: Any) -> list[str]:
    answer = await ok(await client.post("/v1/history/search/embedding", json=body(vector, **more)))
    return [match["sighting"]["camera"] + "@" + match["sighting"]["first_at"][11:19] for match in answer["matches"]]


ADA = unit(1, 0, 0, 0)


async def test_the_past_is_searched_with_filters_and_summed_up_by_camera(client: TestClient, behind: ApiServices) -> None:
    await behind.sightings.upsert(
        [
            seen("a", unit(1, 0.1, 0, 0)),
            seen("b", unit(1, 0.3, 0, 0), camera="hall", first_s=60),
            seen("c", unit(1, 0.2, 0, 0), camera="hall", first_s=120, subject="alice"),
            seen("d", unit(0, 1, 0, 0), camera="hall"),
        ],
        now_s=NOW_S,
    )
    before = await ok(await client.post("/v1/history/search/embedding", json=body(ADA)))
    assert (before["complete"], before["matches"], before["indexed"]) == (False, [], 0)
    await behind.history.load()
    answer = await ok(await client.post("/v1/history/search/embedding", json=body(ADA)))
    assert (answer["complete"], answer["indexed"], answer["total"], answer["searched"]) == (True, 4, 4, 4)
    scores = [match["score"] for match in answer["matches"]]
    np.testing.assert_allclose(scores, [1 / np.hypot(1, x) for x in (0.1, 0.2, 0.3)], atol=1e-6)
    assert [match["sighting"]["subject"] for match in answer["matches"]] == [None, "Alice", None]
    assert [(place["camera"], place["sightings"]) for place in answer["cameras"]] == [("hall", 2), ("door", 1)]
    assert await tracks(client, ADA, cameras=["door"]) == ["door@08:53:20"]
    assert await tracks(client, ADA, outcomes=["subject"]) == ["hall@08:55:20"]
    assert await tracks(client, ADA, since="2025-10-09T08:54:00Z", until="2025-10-09T08:55:00Z") == ["hall@08:54:20"]
    short = await ok(await client.post("/v1/history/search/embedding", json=body(ADA, limit=2)))
    assert (len(short["matches"]), short["more"]) == (2, True)


async def test_the_threshold_follows_from_how_many_are_searched(client: TestClient, behind: ApiServices) -> None:
    await behind.sightings.upsert([seen(str(n), unit(1, n, 0, 0), camera="door" if n else "hall") for n in range(30)], now_s=NOW_S)
    await behind.history.load()
    wanted = {key: value for key, value in body(ADA, fpir=0.05).items() if key != "threshold"}
    everywhere = await ok(await client.post("/v1/history/search/embedding", json=wanted))
    here = await ok(await client.post("/v1/history/search/embedding", json=wanted | {"cameras": ["hall"]}))
    assert (everywhere["searched"], here["searched"]) == (30, 1)
    assert everywhere["threshold"] > here["threshold"]
    assert everywhere["fpir"] == pytest.approx(0.05)


async def test_photos_sightings_and_references_are_searched_for(client: TestClient, behind: ApiServices) -> None:
    first = seen("a", unit(1, 0.1, 0, 0))
    await behind.sightings.upsert([first, seen("b", unit(1, 0.3, 0, 0), camera="hall", first_s=60)], now_s=NOW_S)
    await behind.history.load()
    form = FormData({"threshold": "0.8", "cameras": "hall,yard", "outcomes": "stranger,subject"})
    form.add_field("photo", picture((1, 0, 0, 0)), filename="p.png", content_type="image/png")
    answer = await ok(await client.post("/v1/history/search", data=form))
    assert [match["sighting"]["camera"] for match in answer["matches"]] == ["hall"]
    wanted = {"sighting_id": first.sighting.sighting_id, "threshold": 0.8}
    answer = await ok(await client.post("/v1/history/search/sighting", json=wanted))
    assert [match["sighting"]["camera"] for match in answer["matches"]] == ["hall"]  # not itself
    empty = FormData({"threshold": "0.8"})
    empty.add_field("photo", picture(), filename="p.png", content_type="image/png")
    assert (await client.post("/v1/history/search", data=empty)).status == 422


async def test_what_is_erased_is_never_found_even_by_an_index_that_has_not_heard_of_it(
    client: TestClient, behind: ApiServices, db: Database
) -> None:
    await behind.sightings.upsert([seen("a", unit(1, 0.1, 0, 0), subject="alice"), seen("b", unit(1, 0.3, 0, 0), first_s=60)], now_s=NOW_S)
    await behind.history.load()
    await forget_subject(db, ALICE)
    answer = await ok(await client.post("/v1/history/search/embedding", json=body(ADA, limit=1)))
    assert [match["score"] for match in answer["matches"]] == [pytest.approx(1 / np.hypot(1, 0.3), abs=1e-6)]
    assert (answer["searched"], answer["indexed"]) == (1, 1)
    await behind.sightings.delete_stored_before(NOW_S + 1, limit=10)
    assert await tracks(client, ADA) == []


async def test_the_index_follows_what_is_stored_and_erased(db: Database, behind: ApiServices, aiohttp_client: ClientMaker) -> None:
    options = {"model": MODEL, "dimensions": DIMENSIONS, "most": 1000, "metrics": behind.metrics}
    async with open_history(db, behind.sightings, **options) as history, asyncio.TaskGroup() as group:  # type: ignore[arg-type]
        client = await aiohttp_client(build_app(replace(behind, history=history)), headers=ADMIN)
        await behind.sightings.upsert([seen("a", unit(1, 0.1, 0, 0), subject="alice")], now_s=NOW_S)
        running = group.create_task(history.run())

        async def until(count: int, *, complete: bool = True) -> None:
            async with asyncio.timeout(10):
                while (history.coverage().indexed, history.coverage().complete) != (count, complete):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)

        await until(1)
        await behind.sightings.upsert([seen("b", unit(0, 1, 0, 0)), seen("c", unit(0, 0, 1, 0), model="another")], now_s=NOW_S)
        await until(2)
        await behind.sightings.upsert([seen("b", unit(1, 0.2, 0, 0), revision=2)], now_s=NOW_S)
        async with asyncio.timeout(10):
            while len(await tracks(client, ADA)) < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        await forget_subject(db, ALICE)
        await until(1)
        await behind.sightings.delete_stored_before(NOW_S + 1, limit=10)
        await until(0)
        running.cancel()


async def test_a_record_beyond_memory_is_searched_in_part_and_says_so(db: Database, behind: ApiServices) -> None:
    await behind.sightings.upsert([seen(str(n), unit(1, n, 0, 0), first_s=n) for n in range(6)], now_s=NOW_S)
    options = {"model": MODEL, "dimensions": DIMENSIONS, "most": 4, "metrics": behind.metrics}
    async with open_history(db, behind.sightings, **options) as history:  # type: ignore[arg-type]
        await history.load()
        covered = history.coverage()
        assert (covered.complete, covered.indexed, covered.total, covered.oldest_s) == (False, 4, 6, NOW_S + 2)
