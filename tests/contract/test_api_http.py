"""The API over HTTP, on real stores."""

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.cameras.models import CameraView
from api.services import ApiServices
from api.system.models import ReadyCheck
from core.ports import Database
from core.settings import ApiSettings
from tests.builders.api import TOKEN, Platform, picture, services
from tests.builders.sightings import ALICE, BOB, JPEG, NOW_S, arrival

ClientMaker = Callable[..., Awaitable[TestClient]]


async def error(response: ClientResponse, status: int) -> dict[str, Any]:
    """Check the envelope and return what is inside."""
    assert response.status == status, await response.text()
    body = await response.json()
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["request_id"] == response.headers["X-Request-ID"]
    return body["error"]


async def ok(response: ClientResponse, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


def photos(*contents: bytes, **fields: str) -> FormData:
    form = FormData(fields)
    for number, content in enumerate(contents):
        form.add_field("photo", content, filename=f"p{number}.jpg", content_type="image/jpeg")
    return form


# --- health --------------------------------------------------------------------------------------------------------------------


async def test_alive_and_ready(client: TestClient, platform: Platform) -> None:
    assert await ok(await client.get("/healthz")) == {"status": "ok"}
    assert (await ok(await client.get("/readyz")))["ready"] is True
    platform.checks[1] = ReadyCheck(name="models", ok=False, reason="open: centerface.onnx is damaged")
    body = await ok(await client.get("/readyz"), 503)
    assert body["ready"] is False
    assert body["checks"][1]["reason"] == "open: centerface.onnx is damaged"


async def test_metrics_count_requests_by_route_not_by_path(client: TestClient) -> None:
    await client.get(f"/v1/sightings/{uuid.uuid4()}")
    await client.get("/v1/nothing/here")
    text = await (await client.get("/metrics")).text()
    assert 'sightline_api_requests_total{method="GET",route="/v1/sightings/{sighting_id}",status="404"} 1.0' in text
    assert 'sightline_api_requests_total{method="none",route="none",status="404"} 1.0' in text


async def test_cameras_come_without_credentials(client: TestClient, platform: Platform) -> None:
    platform.cameras.append(CameraView(name="door", url="rtsp://***@10.0.0.7/1", region="default", enabled=True, state="up"))
    (camera,) = (await ok(await client.get("/v1/cameras")))["cameras"]
    assert (camera["name"], camera["state"], camera["url"]) == ("door", "up", "rtsp://***@10.0.0.7/1")


async def test_a_failure_of_ours_is_an_envelope_too_and_tells_nothing(client: TestClient, platform: Platform) -> None:
    platform.checks = None  # type: ignore[assignment]
    inside = await error(await client.get("/readyz"), 500)
    assert inside["code"] == "error"
    assert "NoneType" not in inside["message"]
    assert 'route="/readyz",status="500"} 1.0' in await (await client.get("/metrics")).text()


# --- subjects ------------------------------------------------------------------------------------------------------------------


async def test_a_subject_from_birth_to_erasure(client: TestClient, behind: ApiServices) -> None:
    made = await client.post("/v1/subjects", json={"name": "Alice", "attributes": {"desk": 7}, "consent": {"purpose": "access"}})
    subject = await ok(made, 201)
    path = made.headers["Location"]
    assert path == f"/v1/subjects/{subject['subject_id']}"
    answer = await ok(await client.post(f"{path}/references", data=photos(b"paper 1", b"garbage", b"paper 1")))
    assert [one["status"] for one in answer["results"]] == ["enrolled", "rejected", "unchanged"]
    assert (answer["enrolled"], answer["results"][1]["reason"]) == (1, "unreadable")
    (reference,) = (await ok(await client.get(f"{path}/references")))["references"]
    await behind.sightings.upsert([arrival(subject="alice", subject_id=subject["subject_id"])], now_s=NOW_S)

    renamed = await ok(
        await client.patch(path, json={"name": "Alice L.", "attributes": {"floor": 2}, "valid_until": "2030-01-01T00:00:00Z"})
    )
    assert (renamed["name"], renamed["attributes"], renamed["valid_until"]) == ("Alice L.", {"desk": 7, "floor": 2}, "2030-01-01T00:00:00Z")
    assert (await ok(await client.get("/v1/sightings?subject=Alice%20L.")))["sightings"][0]["subject"] == "Alice L."

    gallery = await ok(await client.get("/v1/gallery"))
    assert (gallery["subjects"], gallery["references"], gallery["visible"]) == (1, 1, True)
    receipt = await ok(await client.delete(path))
    assert (receipt["references"], receipt["embeddings"], receipt["sightings"]) == (1, 1, 1)
    assert "Alice" not in json.dumps(receipt)
    assert (await error(await client.get(path), 404))["code"] == "not_found"
    (sighting,) = (await ok(await client.get("/v1/sightings")))["sightings"]
    assert (sighting["outcome"], sighting["reason"], sighting["subject"], sighting["thumbnail"]) == ("stranger", "erased", None, None)
    assert (await error(await client.delete(f"/v1/references/{reference['reference_id']}"), 404))["code"] == "not_found"


async def test_one_reference_can_be_deleted(client: TestClient) -> None:
    subject = await ok(await client.post("/v1/subjects", json={"name": "Bob"}), 201)
    path = f"/v1/subjects/{subject['subject_id']}/references"
    answer = await ok(await client.post(path, data=photos(b"paper 1", b"paper 2")))
    gone = answer["results"][0]["reference_id"]
    assert (await ok(await client.delete(f"/v1/references/{gone}")))["generation"] == 3
    assert [one["reference_id"] for one in (await ok(await client.get(path)))["references"]] == [answer["results"][1]["reference_id"]]


async def test_a_change_that_the_matcher_has_not_seen_yet_is_accepted_not_done(client: TestClient, platform: Platform) -> None:
    subject = await ok(await client.post("/v1/subjects", json={"name": "Bob"}), 201)
    await ok(await client.post(f"/v1/subjects/{subject['subject_id']}/references", data=photos(b"paper 1")))
    platform.matcher.away = True
    await ok(await client.patch(f"/v1/subjects/{subject['subject_id']}", json={"name": "Rob"}), 202)
    assert (await ok(await client.get("/v1/gallery")))["visible"] is False
    await ok(await client.delete(f"/v1/subjects/{subject['subject_id']}"), 202)


async def test_subject_pages_by_name(client: TestClient) -> None:
    for name in ("Cleo", "Ada", "Bea"):
        await client.post("/v1/subjects", json={"name": name})
    first = await ok(await client.get("/v1/subjects?limit=2"))
    second = await ok(await client.get("/v1/subjects", params={"limit": 2, "cursor": first["next_cursor"]}))
    assert [one["name"] for one in first["subjects"] + second["subjects"]] == ["Ada", "Bea", "Cleo"]
    assert second["next_cursor"] is None


async def test_a_name_that_is_taken_is_a_conflict(client: TestClient) -> None:
    await client.post("/v1/subjects", json={"name": "Ada"})
    assert (await error(await client.post("/v1/subjects", json={"name": "Ada"}), 409))["code"] == "conflict"


# --- search --------------------------------------------------------------------------------------------------------------------


async def test_search_names_who_reaches_the_threshold_and_says_what_it_means(client: TestClient, platform: Platform) -> None:
    platform.matcher.known = {"Ada": np.array([1, 0, 0, 0], np.float32), "Bea": np.array([0, 1, 0, 0], np.float32)}
    for name in platform.matcher.known:
        subject = await ok(await client.post("/v1/subjects", json={"name": name}), 201)
        await client.post(f"/v1/subjects/{subject['subject_id']}/references", data=photos(b"paper " + name.encode()))
    body = await ok(await client.post("/v1/search", data=photos(picture((1, 0, 0, 0), (0, 0, 1, 0)), k="1", fpir="0.01")))
    known, stranger = body["faces"]
    assert (known["outcome"], known["candidates"][0]["subject"], known["candidates"][0]["match"]) == ("subject", "Ada", True)
    assert (stranger["outcome"], stranger["reason"], stranger["candidates"][0]["match"]) == ("stranger", "below_threshold", False)
    assert body["threshold"] == pytest.approx(0.3, abs=0.01)  # of the made-up table: FAR 1e-3 for ten comparisons
    assert body["fpir"] == pytest.approx(0.01)
    assert known["candidates"][0]["fpir"] < 0.01 < stranger["candidates"][0]["fpir"]
    assert len(known["candidates"]) == 1


async def test_search_in_an_empty_gallery_and_of_a_photo_without_faces(client: TestClient) -> None:
    (face,) = (await ok(await client.post("/v1/search", data=photos(picture((1, 0, 0, 0))))))["faces"]
    assert (face["outcome"], face["reason"], face["candidates"]) == ("stranger", "empty_gallery", [])
    assert (await ok(await client.post("/v1/search", data=photos(picture()))))["faces"] == []


async def test_search_refuses_what_it_cannot_read(client: TestClient, platform: Platform) -> None:
    assert (await error(await client.post("/v1/search", data=photos(b"\x00garbage")), 422))["message"].startswith("p0.jpg: ")
    assert "one a request" in (await error(await client.post("/v1/search", data=photos(picture(), picture())), 422))["message"]
    assert (await error(await client.post("/v1/search", data=photos(picture(), threshold="2")), 400))["details"][0]["field"] == "threshold"
    assert (
        "give one of them"
        in (await error(await client.post("/v1/search", data=photos(picture(), threshold="0.4", fpir="0.1")), 422))["message"]
    )
    platform.matcher.away = True
    response = await client.post("/v1/search", data=photos(picture((1, 0, 0, 0))))
    assert (await error(response, 503))["code"] == "unavailable"
    assert response.headers["Retry-After"] == "1"


# --- sightings -----------------------------------------------------------------------------------------------------------------


async def test_sightings_with_filters_pages_details_and_pictures(client: TestClient, behind: ApiServices) -> None:
    arrivals = [
        arrival("a", subject="alice"),
        arrival("b", first_s=60, camera="hall"),
        arrival("c", first_s=70, subject="bob", thumbnail=b""),
    ]
    await behind.sightings.upsert(arrivals, now_s=NOW_S)
    page = await ok(await client.get("/v1/sightings?limit=2"))
    rest = await ok(await client.get("/v1/sightings", params={"limit": 2, "cursor": page["next_cursor"]}))
    bob, stranger, alice = page["sightings"] + rest["sightings"]
    assert (alice["subject"], stranger["subject"], bob["subject"]) == ("Alice", None, "Bob")
    assert (stranger["outcome"], stranger["camera"], bob["thumbnail"]) == ("stranger", "hall", None)
    picture = await client.get(alice["thumbnail"])
    assert (await picture.read(), picture.content_type) == (JPEG, "image/jpeg")
    detail = await ok(await client.get(f"/v1/sightings/{alice['sighting_id']}"))
    assert (len(detail["path"]), detail["model"], "embedding" in detail) == (2, "fr_feature", False)
    assert detail["episode_id"] is not None
    for query, count in (
        ("camera=hall", 1),
        (f"subject={BOB}", 1),
        ("outcome=stranger", 1),
        (f"until={NOW_S + 30:.0f}", 1),
        ("camera=x", 0),
    ):
        assert len((await ok(await client.get(f"/v1/sightings?{query}")))["sightings"]) == count, query
    episodes = (await ok(await client.get("/v1/episodes")))["episodes"]
    assert [(one["subject_id"], one["sightings"]) for one in episodes] == [(BOB, 1), (ALICE, 1)]


# --- who may ask ---------------------------------------------------------------------------------------------------------------


async def test_with_a_token_only_health_pages_and_the_document_are_open(db: Database, aiohttp_client: ClientMaker) -> None:
    client = await aiohttp_client(build_app(services(db, api=ApiSettings(token=TOKEN))))
    for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/console/console.js"):
        assert (await client.get(path)).status == 200, path
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer \udcff"}):
        try:
            response = await client.get("/v1/sightings", headers=header)
        except UnicodeEncodeError:
            continue  # the client itself can't send it
        assert (await error(response, 401))["code"] == "unauthorized"
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await client.get("/metrics")).status == 401
    assert (await client.get("/no/such/path")).status == 401
    assert (await client.get("/v1/sightings", headers={"Authorization": f"Bearer {TOKEN}"})).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8400", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::2]:8400"]
)
async def test_a_foreign_host_name_is_refused(client: TestClient, host: str) -> None:
    assert (await error(await client.get("/v1/sightings", headers={"Host": host}), 403))["code"] == "forbidden"


@pytest.mark.parametrize("host", ["localhost:8400", "127.0.0.1", "[::1]:8400", "LOCALHOST"])
async def test_this_machine_is_served_by_any_of_its_names(client: TestClient, host: str) -> None:
    await ok(await client.get("/v1/sightings", headers={"Host": host}))


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_another_site_changes_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert (await error(await client.post("/v1/subjects", json={"name": "Eve"}, headers=headers), 403))["code"] == "forbidden"
    assert (await ok(await client.get("/v1/subjects")))["subjects"] == []


async def test_our_own_page_may_change_things(client: TestClient) -> None:
    own = {"Origin": f"http://{client.host}:{client.port}", "Sec-Fetch-Site": "same-origin"}
    assert (await client.post("/v1/subjects", json={"name": "Ada"}, headers=own)).status == 201


async def test_every_answer_carries_its_id_and_protects_the_browser(client: TestClient) -> None:
    for path in ("/", "/healthz", "/nowhere", "/v1/sightings?limit=x"):
        response = await client.get(path, headers={"X-Request-ID": "mine-1"})
        assert response.headers["X-Request-ID"] == "mine-1"
        assert "unsafe-inline" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Server"] == "sightline"
        assert "Access-Control-Allow-Origin" not in response.headers
    forged = await client.get("/healthz", headers={"X-Request-ID": "a b\tc"})
    assert forged.headers["X-Request-ID"] != "a b\tc"
