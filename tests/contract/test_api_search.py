"""Search over HTTP: what can be searched for, among whom, and how sure; verification."""

import base64
import uuid
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient

from api.services import ApiServices
from core.ports import Database
from core.schema import Array
from core.types import F32
from enrollment.record import SubjectDetails
from tests.builders.api import MODEL, Platform, picture
from tests.builders.gallery import new_reference
from tests.builders.sightings import NOW_S, arrival

ADA, BEA, CLEO = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))


def unit(*values: float) -> F32:
    vector = np.array(values, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def text(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


async def enrol(behind: ApiServices, platform: Platform, name: str, values: tuple[float, ...], **details: Any) -> tuple[str, str]:
    """Enrol somebody, in the database and in the matcher; return subject and reference."""
    new = new_reference(len(platform.matcher.known) + 1, model=MODEL, vector=unit(*values))
    added = await behind.gallery.add_reference(name, new, collection="default", details=SubjectDetails(**details))
    platform.matcher.known[name] = unit(*values)
    platform.matcher.subjects[name] = added.subject_id
    return added.subject_id, added.reference_id


async def ok(response: ClientResponse) -> Any:
    assert response.status == 200, await response.text()
    return await response.json()


async def problem(response: ClientResponse, status: int) -> str:
    assert response.status == status, await response.text()
    return str((await response.json())["error"]["message"])


def photos(*contents: bytes, **fields: str) -> FormData:
    form = FormData(fields)
    for number, content in enumerate(contents):
        form.add_field("photo", content, filename=f"p{number}.png", content_type="image/png")
    return form


async def test_an_embedding_finds_its_subject(client: TestClient, behind: ApiServices, platform: Platform) -> None:
    await enrol(behind, platform, "Ada", ADA)
    await enrol(behind, platform, "Bea", BEA)
    body = await ok(await client.post("/v1/search/embedding", json={"embedding": text(6, 0.3, 0, 0), "model": MODEL, "k": 2}))
    assert (body["outcome"], [one["subject"] for one in body["candidates"]], body["references"]) == ("subject", ["Ada", "Bea"], 2)
    assert body["candidates"][0]["score"] == pytest.approx(0.99875, abs=1e-5)
    assert (body["collection"], body["model"]) == ("default", MODEL)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"embedding": text(1, 0, 0, 0), "model": "other"}, "model other: the model in use is paper; embeddings of different models"),
        ({"embedding": text(1, 0, 0, 0, 0), "model": MODEL}, "embedding: has 20 bytes, paper has 4 float32 in 16"),
        ({"embedding": text(0, 0, 0, 0), "model": MODEL}, "embedding: is zero or not finite, so it has no direction"),
        ({"embedding": text(1, np.nan, 0, 0), "model": MODEL}, "embedding: is zero or not finite, so it has no direction"),
        ({"embedding": "A" * 23, "model": MODEL}, "embedding: is no base64: "),
        ({"embedding": text(1, 0, 0, 0), "model": MODEL, "threshold": 0.5, "fpir": 0.5}, "threshold and fpir: give one of them"),
    ],
)
async def test_embeddings_that_mean_nothing_are_refused(client: TestClient, body: dict[str, Any], message: str) -> None:
    assert (await problem(await client.post("/v1/search/embedding", json=body), 422)).startswith(message)


async def test_a_sighting_and_a_reference_are_searched_for(client: TestClient, behind: ApiServices, platform: Platform) -> None:
    _, reference = await enrol(behind, platform, "Ada", ADA)
    await enrol(behind, platform, "Bea", (0.8, 0.6, 0, 0))
    seen = arrival("t", model=MODEL, embedding=Array.pack(unit(1, 0.1, 0, 0)))
    await behind.sightings.upsert([seen], now_s=NOW_S)
    body = await ok(await client.post("/v1/search/sighting", json={"sighting_id": seen.sighting.sighting_id, "k": 1}))
    assert [one["subject"] for one in body["candidates"]] == ["Ada"]
    body = await ok(await client.post("/v1/search/reference", json={"reference_id": reference}))
    assert [one["subject"] for one in body["candidates"]] == ["Ada", "Bea"]
    for path, key in (("sighting", "sighting_id"), ("reference", "reference_id")):
        assert "there is none" in await problem(await client.post(f"/v1/search/{path}", json={key: str(uuid.uuid4())}), 404)


async def test_a_sighting_without_a_face_can_not_be_searched_for(client: TestClient, behind: ApiServices) -> None:
    seen = arrival("t", model="another", embedding=Array.pack(unit(1, 0.1, 0, 0)))
    await behind.sightings.upsert([seen], now_s=NOW_S)
    response = await client.post("/v1/search/sighting", json={"sighting_id": seen.sighting.sighting_id})
    assert "has no embedding of paper: it was erased, or made by another model" in await problem(response, 422)


async def test_filters_leave_k_candidates_however_far_down_they_are(client: TestClient, behind: ApiServices, platform: Platform) -> None:
    for number in range(60):
        floor = {"floor": number % 2, "room": number}
        await enrol(behind, platform, f"p{number:02}", (1, 0.01 * number, 0, 0), attributes=floor)

    async def names(**wanted: Any) -> list[str]:
        body = await ok(await client.post("/v1/search/embedding", json={"embedding": text(*ADA), "model": MODEL, **wanted}))
        return [one["subject"] for one in body["candidates"]]

    assert await names(k=3, attributes={"floor": 1}) == ["p01", "p03", "p05"]
    assert await names(k=3, attributes={"room": 59}) == ["p59"]  # the 60th of all: not among those that the matcher gives first
    assert await names(k=3, attributes={"room": 59, "floor": 0}) == []
    body = await ok(await client.post("/v1/search", data=photos(picture(ADA), attributes='{"floor": 0}', k="2", face="best")))
    assert [one["subject"] for one in body["faces"][0]["candidates"]] == ["p00", "p02"]
    assert body["references"] == 30
    assert await problem(await client.post("/v1/search", data=photos(picture(ADA), attributes="[1]")), 422) == (
        "attributes: is no JSON object that can be stored"
    )


async def test_a_watchlist_is_a_filter_and_names_its_collection(
    client: TestClient, behind: ApiServices, platform: Platform, db: Database
) -> None:
    await enrol(behind, platform, "Ada", ADA)
    subject, _ = await enrol(behind, platform, "Bea", BEA)
    await db.execute("insert into watchlist (name, collection) values ('guests', 'default')")
    await db.execute("insert into watchlist_subject (watchlist_id, subject_id) select watchlist_id, $1 from watchlist", subject)
    body = await ok(await client.post("/v1/search/embedding", json={"embedding": text(*ADA), "model": MODEL, "watchlist": "guests"}))
    assert ([one["subject"] for one in body["candidates"]], body["references"]) == (["Bea"], 1)
    for name in ("collection", "watchlist"):
        response = await client.post("/v1/search/embedding", json={"embedding": text(*ADA), "model": MODEL, name: "nowhere"})
        assert await problem(response, 404) == f"{name} 'nowhere': there is none"


async def test_the_best_face_alone_is_looked_up_when_asked_for(client: TestClient) -> None:
    body = await ok(await client.post("/v1/search", data=photos(picture(ADA, BEA), face="best")))
    assert len(body["faces"]) == 1
    assert len((await ok(await client.post("/v1/search", data=photos(picture(ADA, BEA)))))["faces"]) == 2


async def test_two_photos_are_verified(client: TestClient) -> None:
    same = await ok(await client.post("/v1/verify", data=photos(picture(ADA), picture((1, 0.2, 0, 0)), far="0.01")))
    assert (same["match"], same["threshold"], same["far"], same["reference_id"]) == (True, pytest.approx(0.2), pytest.approx(0.01), None)
    assert same["score_far"] < 0.01
    assert len(same["faces"]) == 2
    other = await ok(await client.post("/v1/verify", data=photos(picture(ADA), picture(BEA), threshold="0.5")))
    assert (other["match"], other["score"], other["score_far"]) == (False, pytest.approx(0.0, abs=1e-6), pytest.approx(1.0))


async def test_a_photo_is_verified_against_a_subject(client: TestClient, behind: ApiServices, platform: Platform) -> None:
    subject, reference = await enrol(behind, platform, "Ada", ADA)
    body = await ok(await client.post("/v1/verify", data=photos(picture(ADA), subject_id=subject)))
    assert (body["match"], body["reference_id"]) == (True, reference)
    assert await problem(await client.post("/v1/verify", data=photos(picture(ADA))), 422) == "give two photos, or one photo and subject_id"
    response = await client.post("/v1/verify", data=photos(picture(ADA), picture()))
    assert await problem(response, 422) == "p1.png: shows no face; use a photo that shows one, from the front and upright"
    await behind.gallery.erase(subject)
    assert "there is none" in await problem(await client.post("/v1/verify", data=photos(picture(ADA), subject_id=subject)), 404)
