"""Wrong names and opt-outs over HTTP, up to the searches that follow from them."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient

from api.services import ApiServices
from core.ports import Database, MatchAnswer
from core.schema import Array
from core.types import F32
from recognize.rules.follow import open_rulebook
from recognize.still import StillRecognizer
from tests.builders.api import MODEL, PaperMatcher, PaperVision, Platform, picture, services
from tests.builders.sightings import ALICE, BOB, arrival

ONE = arrival("door/s1/1#0").sighting.sighting_id
FACE = np.array([0.9, 0.4, 0.1, 0.1], np.float32)
FACE /= np.linalg.norm(FACE)


class ReferenceMatcher(PaperMatcher):
    """Names references as a gallery does."""

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        found = await super().search(probes, model=model, collection=collection, k=k)
        return dataclasses.replace(
            found,
            candidates=tuple(
                tuple(dataclasses.replace(one, reference_id=str(uuid.UUID(int=9))) for one in row) for row in found.candidates
            ),
        )


@pytest.fixture
def platform() -> Platform:
    platform = Platform(matcher=ReferenceMatcher())
    platform.matcher.known = {"Alice": np.array([1, 0, 0, 0], np.float32), "Bob": np.array([0, 1, 0, 0], np.float32)}
    platform.matcher.subjects = {"Alice": ALICE, "Bob": BOB}
    return platform


@pytest.fixture
async def behind(db: Database, platform: Platform) -> AsyncIterator[ApiServices]:
    for key, name in ((ALICE, "Alice"), (BOB, "Bob")):
        await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', $2)", key, name)
    parts = services(db, platform=platform)
    async with open_rulebook(db) as book:
        still = StillRecognizer(vision=PaperVision(), matcher=platform.matcher, policy=parts.policy, book=book)  # type: ignore[arg-type]
        yield dataclasses.replace(parts, book=book, still=still)


async def ok(response: ClientResponse, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def refused(response: ClientResponse, status: int) -> str:
    assert response.status == status, await response.text()
    return (await response.json())["error"]["message"]


async def seen(behind: ApiServices, **changes: Any) -> None:
    told = {"subject": "alice", "model": MODEL, "embedding": Array.pack(FACE), "score": 0.9} | changes
    await behind.sightings.record([arrival("door/s1/1#0", **told)])


async def face_of_photo(client: TestClient, *row: float) -> dict[str, Any]:
    form = FormData()
    form.add_field("photo", picture(row), filename="p.png", content_type="image/png")
    (face,) = (await ok(await client.post("/v1/search", data=form)))["faces"]
    return face


async def until_followed(behind: ApiServices, says: Callable[[], bool]) -> None:
    async with asyncio.timeout(1.0):
        while not says():  # noqa: ASYNC110 - what is waited for lies behind a connection
            await asyncio.sleep(0.005)


async def test_a_wrong_person_becomes_the_next_one_and_searches_know_it(client: TestClient, behind: ApiServices) -> None:
    await seen(behind)
    row = tuple(float(v) for v in FACE)
    assert (await face_of_photo(client, *row))["candidates"][0]["subject"] == "Alice"
    told = await ok(await client.post(f"/v1/sightings/{ONE}/wrong-person", json={"reason": "her sister"}))
    assert (told["feedback"]["verdict"], told["feedback"]["subject_id"], told["feedback"]["actor"]) == ("wrong_person", ALICE, "settings")
    assert (told["sighting"]["outcome"], told["sighting"]["subject"]) == ("subject", "Bob")  # whom she resembles next
    assert told["sighting"]["score"] == pytest.approx(float(FACE[1]), abs=1e-5)
    await until_followed(behind, lambda: bool(behind.book.now.exemplars))
    again = await face_of_photo(client, *row)
    assert [one["subject"] for one in again["candidates"]] == ["Bob"]
    alice = await face_of_photo(client, 1.0, 0, 0, 0)
    assert (alice["outcome"], alice["candidates"][0]["subject"]) == ("subject", "Alice")  # her own face has its name as ever
    listed = (await ok(await client.get("/v1/feedback", params={"subject_id": ALICE})))["feedback"]
    assert [one["reason"] for one in listed] == ["her sister"]
    undone = await ok(await client.delete(f"/v1/sightings/{ONE}/wrong-person"))
    assert undone["sighting"]["subject"] == "Alice"
    await until_followed(behind, lambda: not behind.book.now.exemplars)
    assert (await face_of_photo(client, *row))["candidates"][0]["subject"] == "Alice"
    assert (await ok(await client.get("/v1/feedback")))["feedback"] == []


async def test_a_wrong_person_is_a_stranger_when_nobody_else_comes_near_or_nobody_answers(
    client: TestClient, behind: ApiServices, platform: Platform
) -> None:
    await seen(behind, embedding=Array.pack(np.array([1, 0, 0, 0], np.float32)))
    platform.matcher.away = True
    told = await ok(await client.post(f"/v1/sightings/{ONE}/wrong-person", json={}))
    assert (told["sighting"]["outcome"], told["sighting"]["reason"], told["sighting"]["subject_id"]) == ("stranger", "rejected_pair", None)
    await ok(await client.delete(f"/v1/sightings/{ONE}/wrong-person"))
    platform.matcher.away = False
    told = await ok(await client.post(f"/v1/sightings/{ONE}/wrong-person", json={}))
    assert (told["sighting"]["outcome"], told["sighting"]["reason"]) == ("stranger", "rejected_pair")


async def test_a_name_is_confirmed(client: TestClient, behind: ApiServices) -> None:
    await seen(behind)
    told = await ok(await client.post(f"/v1/sightings/{ONE}/confirm", json={"reason": "showed her badge"}))
    assert (told["feedback"]["verdict"], told["sighting"]["subject"]) == ("right_person", "Alice")
    (listed,) = (await ok(await client.get("/v1/feedback?verdict=right_person")))["feedback"]
    assert (listed["subject"], listed["actor"], listed["reason"]) == ("Alice", "settings", "showed her badge")


async def test_what_makes_no_sense_is_refused(client: TestClient, behind: ApiServices) -> None:
    assert await refused(await client.post(f"/v1/sightings/{ONE}/wrong-person", json={}), 404) == f"sighting {ONE}: there is none"
    await seen(behind, subject=None)
    nobody = f"sighting {ONE}: names nobody; say with subject_id who it is not"
    assert await refused(await client.post(f"/v1/sightings/{ONE}/wrong-person", json={}), 422) == nobody
    assert await refused(await client.post(f"/v1/sightings/{ONE}/confirm", json={}), 409) == (
        f"sighting {ONE}: has no name that could be right"
    )
    assert await refused(await client.delete(f"/v1/sightings/{ONE}/wrong-person"), 404) == (
        f"sighting {ONE}: nobody said that its name is wrong"
    )
    assert (await client.get("/v1/feedback?cursor=nonsense")).status == 422


async def test_who_opts_out_is_matched_and_then_dropped(client: TestClient, behind: ApiServices, db: Database) -> None:
    await seen(behind)
    place = f"/v1/subjects/{ALICE}/opt-out"
    made = await ok(await client.put(place, json={"reason": "asked by letter"}))
    assert (made["subject_id"], made["reason"], made["set_by"], made["sightings_erased"]) == (ALICE, "asked by letter", "settings", 1)
    assert (await client.get(f"/v1/sightings/{ONE}")).status == 404
    assert (await client.get(f"/v1/sightings/{ONE}/thumbnail.jpg")).status == 404
    await until_followed(behind, lambda: ALICE in behind.book.now.opted_out)
    face = await face_of_photo(client, 1.0, 0, 0, 0)
    assert (face["outcome"], face["reason"], face["candidates"]) == ("opted_out", "opted_out", [])
    bob = await face_of_photo(client, 0.2, 0.98, 0, 0)
    assert [one["subject"] for one in bob["candidates"]] == ["Bob"]  # nor is she shown as somebody's second
    listed = await ok(await client.get("/v1/privacy/opt-outs"))
    assert ([one["subject_id"] for one in listed["opt_outs"]], listed["next_cursor"]) == ([ALICE], None)
    assert await ok(await client.delete(place)) == {"subject_id": ALICE}
    await until_followed(behind, lambda: not behind.book.now.opted_out)
    assert (await face_of_photo(client, 1.0, 0, 0, 0))["outcome"] == "subject"
    assert await refused(await client.delete(place), 404) == f"subject '{ALICE}': has not opted out"


async def test_the_past_stays_where_that_is_asked_for(client: TestClient, behind: ApiServices) -> None:
    await seen(behind)
    made = await ok(await client.put(f"/v1/subjects/{ALICE}/opt-out", json={"erase_past": False}))
    assert made["sightings_erased"] == 0
    assert (await ok(await client.get(f"/v1/sightings/{ONE}")))["subject"] == "Alice"


async def test_opt_outs_come_in_pages_and_are_of_subjects_that_are_there(client: TestClient) -> None:
    for key in (ALICE, BOB):
        await ok(await client.put(f"/v1/subjects/{key}/opt-out", json={}))
    first = await ok(await client.get("/v1/privacy/opt-outs?limit=1"))
    rest = await ok(await client.get("/v1/privacy/opt-outs", params={"limit": 1, "cursor": first["next_cursor"]}))
    assert sorted(one["subject_id"] for one in (*first["opt_outs"], *rest["opt_outs"])) == sorted([ALICE, BOB])
    assert rest["next_cursor"] is None
    assert (await client.put(f"/v1/subjects/{uuid.UUID(int=5)}/opt-out", json={})).status == 404
    assert (await client.put("/v1/subjects/Alice/opt-out", json={})).status == 404
