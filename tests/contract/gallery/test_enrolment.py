"""Enrolment over HTTP: of photos, of what was set aside, of what was seen."""

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from aiohttp.test_utils import TestClient

from api.services import ApiServices
from core.jpeg import encode_jpeg
from core.ports import Database
from core.schema import Array
from core.types import Image
from enrollment.service import Enroller
from tests.builders.http import ok, refused
from tests.builders.painted import painted, vector_of
from tests.builders.people import ANN, BOB, found, of, person, photos
from tests.builders.sightings import arrival

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
