"""Collections and subjects over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp.test_utils import TestClient

from api.app import build_app
from api.services import ApiServices
from enrollment.service import Enroller
from tests.builders.http import ok, refused
from tests.builders.people import ANN, BOB, found, of, person, photos

# --- collections ---------------------------------------------------------------------------------------------------------------


async def test_a_collection_from_birth_to_erasure(client: TestClient) -> None:
    made = await client.post("/v1/collections", json={"name": "guests", "description": "Evening", "attributes": {"a": 1, "b": 2}})
    assert (made.headers["Location"], made.headers["ETag"]) == ("/v1/collections/guests", '"v1"')
    assert (await refused(await client.post("/v1/collections", json={"name": "guests"}), 409))["code"] == "conflict"
    changed = await client.patch(
        "/v1/collections/guests", json={"description": None, "attributes": {"a": None}}, headers={"If-Match": '"v1"'}
    )
    assert (await ok(changed))["attributes"] == {"b": 2}
    await refused(await client.patch("/v1/collections/guests", json={}, headers={"If-Match": '"v1"'}), 412)
    await person(client, "Ann", of(ANN), collection="guests")
    listed = (await ok(await client.get("/v1/collections?limit=1&cursor=ZGVmYXVsdA==")))["collections"]
    assert [(one["name"], one["description"], one["subjects"], one["references"]) for one in listed] == [("guests", "", 1, 1)]
    assert "is not empty" in (await refused(await client.delete("/v1/collections/guests"), 409))["message"]
    gone = await ok(await client.delete("/v1/collections/guests?erase=true"))
    assert ([one["references"] for one in gone["receipts"]], gone["removed"]) == ([1], True)
    await refused(await client.get("/v1/collections/guests"), 404)
    assert "is the one that cameras search" in (await refused(await client.delete("/v1/collections/default"), 409))["message"]


# --- subjects ------------------------------------------------------------------------------------------------------------------


async def test_what_is_recorded_of_a_subject_changes_and_is_cleared(client: TestClient) -> None:
    body = {"name": "Ann", "external_id": "7", "notes": "n", "attributes": {"desk": 7, "x": 1}, "valid_from": "2020-01-01T00:00:00Z"}
    made = await client.post("/v1/subjects", json=body)
    path, tag = made.headers["Location"], made.headers["ETag"]
    patch = {"notes": None, "attributes": {"x": None}, "external_id": "8", "consent": {"purpose": "door", "basis": "contract"}}
    changed = await client.patch(path, json=patch, headers={"If-Match": tag})
    subject = await ok(changed)
    assert (subject["notes"], subject["attributes"], subject["external_id"]) == (None, {"desk": 7}, "8")
    await refused(await client.patch(path, json={"notes": "late"}, headers={"If-Match": tag}), 412)
    cleared = await ok(await client.patch(path, json={"consent": {"basis": None}, "valid_from": None}))
    assert (cleared["consent"], cleared["valid_from"]) == ({"purpose": "door"}, None)
    await ok(await client.post("/v1/subjects", json={"name": "Bob", "external_id": "9"}), 201)
    words = (await refused(await client.patch(path, json={"external_id": "9"}), 409))["message"]
    assert words == "external id '9': belongs to another subject of collection default"


async def test_subjects_are_found(client: TestClient) -> None:
    past, future = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    for name, more in {
        "Ann Lee": {"external_id": "7", "attributes": {"desk": 7, "floor": "2"}, "consent": {"purpose": "door"}},
        "Annika": {"valid_until": past.isoformat()},
        "Bob_%": {"consent": {"purpose": "door", "expires_at": past.isoformat()}},
        "Cleo": {"consent": {"purpose": "door", "withdrawn_at": past.isoformat(), "expires_at": past.isoformat()}},
        "Dan": {"consent": {"purpose": "door", "expires_at": future.isoformat()}},
    }.items():
        await ok(await client.post("/v1/subjects", json={"name": name, **more}), 201)

    async def names(**query: str) -> list[str]:
        return [one["name"] for one in (await ok(await client.get("/v1/subjects", params=query)))["subjects"]]

    assert await names(name_prefix="Ann") == ["Ann Lee", "Annika"]
    assert await names(name_contains="LE") == ["Ann Lee", "Cleo"]
    assert await names(name_contains="_%") == ["Bob_%"]
    assert await names(external_id="7") == ["Ann Lee"]
    assert await names(attribute="desk:7") == await names(attribute="floor:2") == ["Ann Lee"]
    assert await names(consent="none") == ["Annika"]
    assert await names(consent="given") == ["Ann Lee", "Dan"]
    assert (await names(consent="expired"), await names(consent="withdrawn")) == (["Bob_%"], ["Cleo"])
    assert await names(expired="true") == ["Annika", "Bob_%", "Cleo"]
    assert await names(expired="false", name_prefix="A") == ["Ann Lee"]


async def test_validity_and_consent_reach_the_matcher_before_the_answer(client: TestClient, enroller: Enroller) -> None:
    subject = await person(client, "Ann", of(ANN))
    path = f"/v1/subjects/{subject['subject_id']}"
    past, future = ((datetime.now(UTC) + timedelta(days=days)).isoformat() for days in (-1, 1))
    for ended, again in (
        ({"valid_until": past}, {"valid_until": None}),
        ({"valid_from": future}, {"valid_from": None}),
        ({"consent": {"purpose": "p", "expires_at": past}}, {"consent": {"expires_at": None}}),
        ({"consent": {"withdrawn_at": past}}, {"consent": None}),
    ):
        assert (await ok(await client.patch(path, json=ended)))["valid"] is False
        assert await found(enroller, ANN) == [], ended
        assert (await ok(await client.patch(path, json=again)))["valid"] is True
        assert await found(enroller, ANN) == ["Ann"], again


async def test_what_is_not_granted_is_not_there(behind: ApiServices, client: TestClient, aiohttp_client: Any) -> None:
    subject = await person(client, "Ann", of(ANN), collection="secret")
    (reference,) = (await ok(await client.get(f"/v1/subjects/{subject['subject_id']}/references")))["references"]
    made = await ok(await client.post("/v1/keys", json={"name": "k", "role": "admin", "collections": ["default"]}), 201)
    tenant = await aiohttp_client(build_app(behind), headers={"Authorization": f"Bearer {made['key']}"})
    for path in (
        f"/v1/subjects/{subject['subject_id']}",
        f"/v1/subjects/{subject['subject_id']}/references",
        f"/v1/subjects/{subject['subject_id']}/merges",
        f"/v1/references/{reference['reference_id']}",
        f"/v1/references/{reference['reference_id']}/picture.jpg",
        "/v1/subjects?collection=secret",
        "/v1/collections/secret",
        "/v1/set-aside?collection=secret",
    ):
        await refused(await tenant.get(path), 404)
    assert [one["name"] for one in (await ok(await tenant.get("/v1/collections")))["collections"]] == ["default"]
    assert (await ok(await tenant.get("/v1/gallery")))["subjects"] == 0
    await refused(await tenant.post("/v1/enroll", data=photos(of(BOB), name="Bob", collection="secret")), 404)
