"""Collections, subjects, references, enrolment and merges over HTTP, with painted people, a real shard and a real database."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import PIL.Image
import pytest
from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.services import ApiServices
from core.jpeg import encode_jpeg
from core.ports import Database
from core.schema import Array
from core.types import Image
from enrollment.merging import PARTS
from enrollment.service import Enroller
from tests.builders.api import ADMIN, services
from tests.builders.gallery import open_enroller, png
from tests.builders.painted import painted, vector_of
from tests.builders.sightings import arrival

ANN, BOB = 1, 4


@pytest.fixture
async def enroller(db: Database) -> AsyncIterator[Enroller]:
    async with open_enroller(db) as one:
        yield one


@pytest.fixture
def behind(db: Database, enroller: Enroller) -> ApiServices:
    return replace(services(db), enroller=enroller, await_visible=enroller.await_visible)


@pytest.fixture
async def client(behind: ApiServices, aiohttp_client: Callable[..., Awaitable[TestClient]]) -> TestClient:
    return await aiohttp_client(build_app(behind), headers=ADMIN)


def photos(*images: Image | bytes, **fields: str) -> FormData:
    form = FormData()
    for number, image in enumerate(images):
        form.add_field("photo", image if isinstance(image, bytes) else png(image), filename=f"{number}.png")
    for name, value in fields.items():
        form.add_field(name, value)
    return form


def of(person: int, at: tuple[int, int] = (260, 120)) -> Image:
    return painted({person: at}, size_px=120)


async def ok(response: ClientResponse, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def refused(response: ClientResponse, status: int) -> dict[str, Any]:
    return dict((await ok(response, status))["error"])


async def person(client: TestClient, name: str, *images: Image, **fields: str) -> dict[str, Any]:
    body = await ok(await client.post("/v1/enroll", data=photos(*images, name=name, **fields)), 201)
    return dict(body["subject"])


async def found(enroller: Enroller, who: int, collection: str = "default") -> list[str]:
    answer = await enroller.matcher.search(vector_of(who)[None], model="painted", collection=collection, k=3)
    return [one.subject for one in answer.candidates[0] if one.score > 0.9]


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


# --- enrolment -----------------------------------------------------------------------------------------------------------------


async def test_one_of_several_faces_is_picked(client: TestClient, enroller: Enroller) -> None:
    group = painted({ANN: (60, 100), BOB: (460, 100)}, size_px=120)
    ann, bob = [await ok(await client.post("/v1/subjects", json={"name": name}), 201) for name in ("Ann", "Bob")]
    path = f"/v1/subjects/{ann['subject_id']}/references"
    (first,) = (await ok(await client.post(path, data=photos(group))))["results"]
    assert (first["status"], first["reason"], [face["index"] for face in first["faces"]]) == ("rejected", "several_faces", [0, 1])
    x1, y1, x2, y2 = first["faces"][1]["box"]
    assert (x1, y1, x2, y2) == pytest.approx((460, 100, 580, 220), abs=3)
    (mine,) = (await ok(await client.post(path, data=photos(group, face="0"))))["results"]
    assert (mine["status"], mine["face_index"]) == ("enrolled", 0)
    other = f"/v1/subjects/{bob['subject_id']}/references"
    (his,) = (await ok(await client.post(other, data=photos(group, face=f"{(x1 + x2) / 2},{(y1 + y2) / 2}"))))["results"]
    assert (his["status"], his["face_index"]) == ("enrolled", 1)
    assert (await found(enroller, ANN), await found(enroller, BOB)) == (["Ann"], ["Bob"])
    (again,) = (await ok(await client.post(path, data=photos(group, face="0"))))["results"]
    assert (again["status"], again["reference_id"]) == ("unchanged", mine["reference_id"])
    (none,) = (await ok(await client.post(path, data=photos(group, face="7"))))["results"]
    assert none["reason"] == "no_such_face"
    assert (await refused(await client.post(path, data=photos(group, group, face="0")), 422))["message"].startswith(
        "face: is for one photo"
    )


async def test_a_lookalike_is_warned_of_with_pictures_set_aside_and_accepted(client: TestClient, enroller: Enroller) -> None:
    ann = await person(client, "Ann", of(ANN))
    eve = await ok(await client.post("/v1/subjects", json={"name": "Eve"}), 201)
    path, like = f"/v1/subjects/{eve['subject_id']}/references", of(ANN, (200, 60))
    (told,) = (await ok(await client.post(path, data=photos(like))))["results"]
    assert (told["status"], told["reason"]) == ("rejected", "looks_like_another_subject")
    (warned,) = told["warnings"]
    assert (warned["kind"], warned["subject"], warned["subject_id"]) == ("lookalike", "Ann", ann["subject_id"])
    assert (await (await client.get(warned["picture"])).read()).startswith(b"\xff\xd8\xff")

    (aside,) = (await ok(await client.post(path, data=photos(like, on_doubt="set_aside"))))["results"]
    assert (aside["status"], aside["reason"]) == ("set_aside", "looks_like_another_subject")
    assert (await (await client.get(aside["picture"])).read()).startswith(b"\xff\xd8\xff")
    (same,) = (await ok(await client.post(path, data=photos(like, on_doubt="set_aside"))))["results"]
    assert same["set_aside_id"] == aside["set_aside_id"]
    (listed,) = (await ok(await client.get("/v1/set-aside")))["set_aside"]
    assert (listed["subject"], [one["subject"] for one in listed["warnings"]]) == ("Eve", ["Ann"])
    accepted = await ok(await client.post(f"/v1/set-aside/{aside['set_aside_id']}/accept", json={}))
    assert (accepted["subject_id"], accepted["enrolled"]) == (eve["subject_id"], 1)
    assert (await ok(await client.get("/v1/set-aside")))["set_aside"] == []
    assert sorted(await found(enroller, ANN)) == ["Ann", "Eve"]
    (known,) = (await ok(await client.post(path, data=photos(like))))["results"]
    assert known["status"] == "unchanged"  # the photo that was sent, not the picture that was kept


async def test_set_aside_photos_wait_for_a_face_are_discarded_and_go_with_their_subject(client: TestClient, db: Database) -> None:
    group = painted({ANN: (60, 100), BOB: (460, 100)}, size_px=120)
    subject = await person(client, "Ann", of(ANN, (10, 10)))
    path = f"/v1/subjects/{subject['subject_id']}/references"
    (one,) = (await ok(await client.post(path, data=photos(group, on_doubt="set_aside"))))["results"]
    accept = f"/v1/set-aside/{one['set_aside_id']}/accept"
    assert (await refused(await client.post(accept, json={}), 422))["code"] == "nothing_enrolled"
    bob = await ok(await client.post("/v1/subjects", json={"name": "Bob"}), 201)
    await ok(await client.post(accept, json={"face": "1", "subject_id": bob["subject_id"]}))
    third = painted({2: (60, 100), 5: (460, 100)}, size_px=120)
    (two,) = (await ok(await client.post(path, data=photos(third, on_doubt="set_aside"))))["results"]
    await ok(await client.delete(f"/v1/set-aside/{two['set_aside_id']}"))
    await refused(await client.get(f"/v1/set-aside/{two['set_aside_id']}"), 404)
    await ok(await client.post(path, data=photos(third, on_doubt="set_aside")))
    await ok(await client.delete(f"/v1/subjects/{subject['subject_id']}"))
    assert await db.fetch("select from set_aside") == []


async def test_doubtful_photos_are_enrolled_when_asked_with_warnings(client: TestClient) -> None:
    await person(client, "Ann", of(ANN))
    body = await ok(await client.post("/v1/enroll", data=photos(of(ANN), name="Twin", on_doubt="enroll")), 201)
    (result,) = body["results"]
    assert (result["status"], sorted({one["kind"] for one in result["warnings"]})) == ("enrolled", ["duplicate", "lookalike"])


async def test_a_person_of_photos_all_or_nothing(client: TestClient, enroller: Enroller, db: Database) -> None:
    mixed = photos(of(ANN), painted({}), name="Ann", all_or_nothing="true")
    problem = await refused(await client.post("/v1/enroll", data=mixed), 422)
    assert [one["result"]["reason"] for one in problem["details"]] == ["others_rejected", "no_face"]
    assert (await ok(await client.get("/v1/subjects")))["subjects"] == []
    fields = {"attributes": '{"desk": 7}', "consent": '{"purpose": "door"}', "external_id": "7", "valid_until": "2040-01-01T00:00:00Z"}
    both = photos(of(ANN), of(ANN, (10, 10)), name="Ann", all_or_nothing="true", **fields)
    made = await ok(await client.post("/v1/enroll", data=both), 201)
    assert (made["enrolled"], made["subject"]["references"], made["subject"]["attributes"]) == (2, 2, {"desk": 7})
    assert (made["subject"]["consent"], made["subject"]["external_id"]) == ({"purpose": "door"}, "7")
    assert await found(enroller, ANN) == ["Ann"]
    assert (await refused(await client.post("/v1/enroll", data=photos(of(BOB), name="Ann")), 409))["code"] == "conflict"
    assert (await refused(await client.post("/v1/enroll", data=photos(painted({}), name="Nobody")), 422))["code"] == "nothing_enrolled"
    assert len(await db.fetch("select from subject")) == 1


async def test_a_reference_moves_to_another_subject(client: TestClient, enroller: Enroller) -> None:
    ann = await person(client, "Ann", of(ANN))
    bob = await person(client, "Bob", of(BOB))
    (reference,) = (await ok(await client.get(f"/v1/subjects/{ann['subject_id']}/references")))["references"]
    path = f"/v1/references/{reference['reference_id']}"
    moved = await ok(await client.post(f"{path}/move", json={"subject_id": bob["subject_id"]}))
    assert (moved["subject_id"], moved["reference_id"]) == (bob["subject_id"], reference["reference_id"])
    assert await found(enroller, ANN) == ["Bob"]
    await ok(await client.delete(path))
    assert await found(enroller, ANN) == []


async def test_orientation_is_honoured_and_nothing_of_the_metadata_is_kept(client: TestClient, db: Database) -> None:
    upright = of(ANN, (60, 200))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "SecretCameraMaker"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 13.0)
    file = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(file, "JPEG", quality=95, exif=exif)
    assert b"SecretCameraMaker" in file.getvalue()
    made = await ok(await client.post("/v1/enroll", data=photos(file.getvalue(), name="Ann")), 201)
    (result,) = made["results"]
    assert result["faces"][0]["box"] == pytest.approx((60, 200, 180, 320), abs=4)
    group = painted({ANN: (60, 100), BOB: (460, 100)}, size_px=120)
    two = io.BytesIO()
    PIL.Image.fromarray(group).save(two, "JPEG", quality=95, exif=exif)
    path = f"/v1/subjects/{made['subject']['subject_id']}/references"
    (aside,) = (await ok(await client.post(path, data=photos(two.getvalue(), on_doubt="set_aside"))))["results"]
    for kept in (result["picture"], aside["picture"]):
        data = await (await client.get(kept)).read()
        assert data.startswith(b"\xff\xd8\xff")
        assert not {b"Exif", b"SecretCameraMaker", b"GPS"} & {word for word in (b"Exif", b"SecretCameraMaker", b"GPS") if word in data}
        assert len(PIL.Image.open(io.BytesIO(data)).getexif()) == 0


# --- from what was seen --------------------------------------------------------------------------------------------------------


async def seen(behind: ApiServices, track: str, who: int, image: Image, **changes: Any) -> str:
    told = arrival(track, thumbnail=encode_jpeg(image, 90), model="painted", embedding=Array.pack(vector_of(who)), **changes)
    await behind.sightings.upsert([told])
    return told.sighting.sighting_id


async def test_a_sighting_is_enrolled_and_keeps_its_name(client: TestClient, behind: ApiServices, enroller: Enroller) -> None:
    key = await seen(behind, "door/s1/1#0", ANN, painted({ANN: (30, 30)}, size_px=120, width_px=180, height_px=200))
    body = await ok(await client.post(f"/v1/sightings/{key}/enroll", json={"name": "Ann", "attributes": {"desk": 7}}))
    assert (body["subject"]["name"], body["result"]["status"], body["sighting"]["subject"]) == ("Ann", "enrolled", "Ann")
    assert (body["sighting"]["outcome"], body["sighting"]["reason"]) == ("subject", "named")
    assert body["sighting"]["episode_id"]
    assert await found(enroller, ANN) == ["Ann"]
    await behind.sightings.upsert([arrival("door/s1/1#0", revision=9, last_s=9.0, outcome="stranger")])
    later = await ok(await client.get(f"/v1/sightings/{key}"))
    assert (later["subject"], later["outcome"], later["revision"]) == ("Ann", "subject", 9)
    (episode,) = (await ok(await client.get("/v1/episodes")))["episodes"]
    assert (episode["subject"], episode["sightings"]) == ("Ann", 1)


async def test_where_the_picture_says_too_little_the_track_is_enrolled(client: TestClient, behind: ApiServices, enroller: Enroller) -> None:
    key = await seen(behind, "door/s1/2#0", BOB, painted({}, width_px=100, height_px=100))
    bob = await ok(await client.post("/v1/subjects", json={"name": "Bob"}), 201)
    body = await ok(await client.post(f"/v1/sightings/{key}/enroll", json={"subject_id": bob["subject_id"]}))
    assert (body["result"]["status"], body["result"]["quality"]) == ("enrolled", 0.8)
    assert await found(enroller, BOB) == ["Bob"]
    assert (await (await client.get(body["result"]["picture"])).read()).startswith(b"\xff\xd8\xff")
    other = await seen(behind, "door/s1/3#0", BOB, painted({}, width_px=100, height_px=100))
    problem = await refused(await client.post(f"/v1/sightings/{other}/enroll", json={"name": "Rob"}), 422)
    assert problem["details"][0]["result"]["warnings"][0]["subject"] == "Bob"
    assert [one["name"] for one in (await ok(await client.get("/v1/subjects")))["subjects"]] == ["Bob"]
    await refused(await client.post(f"/v1/sightings/{other}/enroll", json={}), 422)


# --- merges --------------------------------------------------------------------------------------------------------------------


async def test_merging_and_undoing_restores_who_had_what(client: TestClient, behind: ApiServices, enroller: Enroller, db: Database) -> None:
    ann, eve = await person(client, "Ann", of(ANN)), await person(client, "Eve", of(BOB), attributes='{"desk": 9}')
    for number, subject in enumerate((ann, eve, eve)):
        track = f"door/s1/{number}#0"
        await behind.sightings.upsert([arrival(track, first_s=100.0 * number, subject="alice", subject_id=subject["subject_id"])])
    before = await whose(db)
    await db.execute("insert into watchlist (name, collection) values ('vip', 'default')")
    await db.execute("insert into watchlist_subject select watchlist_id, $1 from watchlist", eve["subject_id"])

    merge = await ok(
        await client.post(f"/v1/subjects/{ann['subject_id']}/merge", json={"other_subject_id": eve["subject_id"], "name": "Ann Eve"})
    )
    assert (merge["references"], merge["sightings"], merge["merged"]) == (1, 2, "Eve")
    assert (await found(enroller, ANN), await found(enroller, BOB)) == (["Ann Eve"], ["Ann Eve"])
    await refused(await client.get(f"/v1/subjects/{eve['subject_id']}"), 404)
    assert {row["subject"] for row in (await ok(await client.get("/v1/sightings")))["sightings"]} == {"Ann Eve"}
    assert len(await db.fetch("select from watchlist_subject where subject_id = $1", ann["subject_id"])) == 1
    late = arrival("door/s1/9#0", first_s=900.0, subject="alice", subject_id=eve["subject_id"])  # of a recognizer that does not know yet
    await behind.sightings.upsert([late])
    assert len((await ok(await client.get("/v1/sightings?subject=Ann%20Eve")))["sightings"]) == 4

    undone = await ok(await client.post(f"/v1/merges/{merge['merge_id']}/undo"))
    assert undone["undone_at"]
    assert "undone already" in (await refused(await client.post(f"/v1/merges/{merge['merge_id']}/undo"), 409))["message"]
    after = await whose(db)
    assert {key: owner for key, owner in after.items() if key in before} == before
    assert sorted(after.values()).count(eve["subject_id"]) == 4
    assert (await found(enroller, ANN), await found(enroller, BOB)) == (["Ann"], ["Eve"])
    again = await ok(await client.get(f"/v1/subjects/{eve['subject_id']}"))
    assert (again["name"], again["attributes"]) == ("Eve", {"desk": 9})
    listed = [row["subject_id"] for row in await db.fetch("select subject_id from watchlist_subject")]
    assert [str(one) for one in listed] == [eve["subject_id"]]


async def test_erasing_a_survivor_erases_whom_it_was_made_of(client: TestClient, behind: ApiServices, db: Database) -> None:
    ann, eve = await person(client, "Ann", of(ANN)), await person(client, "Eve", of(BOB))
    merge = await ok(await client.post(f"/v1/subjects/{ann['subject_id']}/merge", json={"other_subject_id": eve["subject_id"]}))
    await ok(await client.delete(f"/v1/subjects/{ann['subject_id']}"))
    await refused(await client.post(f"/v1/merges/{merge['merge_id']}/undo"), 404)
    await behind.sightings.upsert([arrival("door/s1/9#0", subject="alice", subject_id=eve["subject_id"])])
    (late,) = (await ok(await client.get("/v1/sightings")))["sightings"]
    assert (late["outcome"], late["subject"]) == ("stranger", None)
    assert await db.fetch("select from subject_merge") == []


async def test_a_merge_knows_every_table_that_belongs_to_a_subject(db: Database) -> None:
    """Whoever adds one decides what becomes of it in a merge (enrollment/merging.py) before the row of the merged subject goes."""
    rows = await db.fetch(
        "select conrelid::regclass::text as name from pg_constraint where contype = 'f' and confrelid = 'subject'::regclass order by 1"
    )
    left_behind = {"opt_out"}  # such a subject is not merged at all
    by_hand = {"watchlist_subject", "sighting_naming"}
    assert {row["name"] for row in rows} == {table for _, table, _, _ in PARTS} | left_behind | by_hand


async def whose(db: Database) -> dict[str, str]:
    """Who has each reference and sighting."""
    rows = await db.fetch(
        "select reference_id::text as key, subject_id from reference union all select sighting_id::text, subject_id from sighting"
    )
    return {row["key"]: str(row["subject_id"]) for row in rows}


async def test_merges_that_make_no_sense(client: TestClient) -> None:
    ann, far = await person(client, "Ann", of(ANN)), await person(client, "Far", of(BOB), collection="far")
    path = f"/v1/subjects/{ann['subject_id']}/merge"
    assert "is the subject itself" in (await refused(await client.post(path, json={"other_subject_id": ann["subject_id"]}), 422))["message"]
    assert "in collection far" in (await refused(await client.post(path, json={"other_subject_id": far["subject_id"]}), 422))["message"]
