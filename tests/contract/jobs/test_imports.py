"""Bulk imports: photos of zips, CSVs and folders; embeddings of other systems."""

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from api.jobs.runner import JobRunner
from core.ports import Database
from enrollment.store import GalleryStore
from sightings.forgetting import forget_subject
from tests.builders.http import reason_of
from tests.builders.jobs import ANN, BOB, imported, npz, once, send, told, zipped


async def test_a_zip_is_imported_row_by_row_with_the_reasons_of_enroll(client: TestClient, db: Database, runner: JobRunner) -> None:
    data = zipped(ann__1=ANN, ann__2=ANN, bob__1=BOB, eve__1=ANN, eve__2=b"no picture", inner__x__y=BOB)
    job, items = await imported(client, db, runner, format="zip", upload_id=await send(client, data))
    assert told(items) == [
        ("ann/1", "done", None),
        ("ann/2", "rejected", "duplicate_of_same_subject"),
        ("bob/1", "done", None),
        ("eve/1", "rejected", "looks_like_another_subject"),
        ("eve/2", "rejected", "unsupported"),
        ("inner/x/y", "rejected", "unsupported"),
    ]
    assert (job["state"], job["total"], job["done"], job["rejected"], job["waiting"]) == ("partial", 6, 2, 4, 0)
    assert items[3]["detail"].startswith("looks like ann (1.000")
    assert {one.name: one.references for one in await GalleryStore(db, forget=forget_subject).subjects("default")} == {"ann": 1, "bob": 1}


async def test_a_second_import_of_the_same_changes_nothing(client: TestClient, db: Database, runner: JobRunner) -> None:
    data = zipped(ann__1=ANN, bob__1=BOB)
    for status in ("enrolled", "unchanged"):
        job, items = await imported(client, db, runner, format="zip", upload_id=await send(client, data))
        assert job["state"] == "succeeded"
        assert [one["result"]["status"] for one in items] == [status] * 2
    assert (await GalleryStore(db, forget=forget_subject).counts()).generation == 2


async def test_a_csv_finds_its_photos_in_a_zip_or_in_the_inbox(client: TestClient, db: Database, runner: JobRunner) -> None:
    table = b"file,subject,name,attributes\nann.png,a-1,Ann,team=red\nbob.png,b-2,,\nlost.png,c-3,,\n../../etc/passwd,d-4,,\n,e-5,,\n"
    await runner.objects.put("inbox/default/may/ann.png", once(ANN))
    await runner.objects.put("inbox/default/may/bob.png", once(BOB))
    await runner.objects.put("inbox/other/may/lost.png", once(BOB))
    expected = [
        ("ann.png", "done", None),
        ("bob.png", "done", None),
        ("lost.png", "rejected", "unsupported"),
        ("../../etc/passwd", "rejected", "unsupported"),
        ("", "rejected", "unsupported"),
    ]
    _, items = await imported(client, db, runner, format="csv", upload_id=await send(client, table), prefix="may")
    assert told(items) == expected
    assert items[2]["detail"] == "is not in the folder"
    assert items[4]["detail"] == "names no file"
    photos = zipped(**{"ann.png": ANN, "bob.png": BOB})
    _, again = await imported(
        client, db, runner, format="csv", upload_id=await send(client, table), photos_upload_id=await send(client, photos)
    )
    assert told(again) == expected
    assert [one["result"]["status"] for one in again[:2]] == ["unchanged"] * 2
    ann = (await GalleryStore(db, forget=forget_subject).subjects("default"))[0]
    assert (ann.name, ann.attributes) == ("a-1", {"name": "Ann", "team": "red"})


async def test_a_folder_of_the_inbox_of_its_collection_and_no_other(client: TestClient, db: Database, runner: JobRunner) -> None:
    await runner.objects.put("inbox/default/people/ann/1.png", once(ANN))
    await runner.objects.put("inbox/default/people/.DS_Store", once(b"x"))
    await runner.objects.put("inbox/default/peoples/bob/1.png", once(BOB))
    job, items = await imported(client, db, runner, format="folder", prefix="people", consent={"purpose": "entry"})
    assert (job["state"], told(items)) == ("succeeded", [("ann/1.png", "done", None)])
    assert (await GalleryStore(db, forget=forget_subject).subjects("default"))[0].consent == {"purpose": "entry"}
    job, _ = await imported(client, db, runner, format="folder", prefix="people", collection="staff")
    assert (job["state"], job["reason"]) == ("failed", "nothing to do was found; see docs/api/jobs.md for what may lie where")


async def test_embeddings_of_another_system_come_over(client: TestClient, db: Database, runner: JobRunner) -> None:
    job, items = await imported(client, db, runner, format="embeddings", upload_id=await send(client, npz(1200)))
    assert (job["state"], job["total"], job["done"]) == ("succeeded", 1200, 1200)
    assert [one["result"]["generation"] for one in items[:3]] == [1, 2, 3]
    assert (await GalleryStore(db, forget=forget_subject).counts()).references == 1200
    assert (await db.fetch("select count(*) as n, max(generation) as g from gallery_change"))[0] == {"n": 1200, "g": 1200}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\x03\x04 no zip", "the file: can't be read as .npz"),
        (b"subject,embedding\nann,AAAA\n", "model: embeddings can only be compared with those of the same model"),
        (b"name\nann\n", "the file: has no column 'subject'; its first line must name subject and embedding"),
        (b"\xff\xfe\x00", "the file: is neither .npz nor UTF-8 text (byte 0); save it as CSV UTF-8"),
        (npz(2, model="theirs", attributes=np.array([{}, {}], dtype=object)), "the file: can't be read as .npz"),
    ],
    ids=["damaged", "model", "columns", "text", "pickle"],
)
async def test_a_file_that_can_not_be_read_fails_the_job_in_one_line(
    client: TestClient, db: Database, runner: JobRunner, data: bytes, reason: str
) -> None:
    job, items = await imported(client, db, runner, format="embeddings", upload_id=await send(client, data))
    assert (job["state"], items) == ("failed", [])
    assert job["reason"].startswith(reason)
    assert "\n" not in job["reason"]


async def test_bombs_and_tricks_in_a_zip_are_reported_and_stop_nothing(client: TestClient, db: Database, runner: JobRunner) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("ann/1.png", ANN)
        archive.writestr("../../evil.png", BOB)
        archive.writestr("/abs.png", BOB)
        archive.writestr("bomb/1.bmp", b"\0" * (63 << 20))
        archive.writestr("nested/1.zip", b"PK")
        archive.writestr("nul/\x01.png", BOB)
    job, items = await imported(client, db, runner, format="zip", upload_id=await send(client, out.getvalue()))
    found = {one["file"]: (one["state"], one["detail"]) for one in items}
    assert found["ann/1.png"] == ("done", None)
    assert found["../../evil.png"] == ("rejected", "has an unsafe name; make the zip from a plain folder")
    assert found["/abs.png"][0] == "rejected"
    assert found["nested/1.zip"] == ("rejected", "is an archive inside the zip; unpack it first")
    assert found["bomb/1.bmp"][0] == "rejected"
    assert job["state"] == "partial"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"format": "zip"}, "upload_id: an import of the format zip needs it"),
        ({"format": "folder", "prefix": "a", "upload_id": "0" * 32}, "upload_id: an import of the format folder reads none"),
        ({"format": "csv", "upload_id": "0" * 32}, "photos_upload_id, prefix: a CSV's photos lie in one of them; give one"),
        ({"format": "folder", "prefix": "a", "callback_url": "https://x.org/"}, "callback_url, callback_secret: give both, or none"),
    ],
)
async def test_what_fits_the_schema_but_makes_no_sense_is_422(client: TestClient, body: dict[str, Any], message: str) -> None:
    assert await reason_of(await client.post("/v1/jobs/import", json=body), 422) == message


@pytest.mark.parametrize("prefix", ["../a", "/a", "a/../b", "a//b", "a/", ".", "a/.b", "a\\b"])
async def test_a_prefix_leads_nowhere_else(client: TestClient, prefix: str) -> None:
    await reason_of(await client.post("/v1/jobs/import", json={"format": "folder", "prefix": prefix}), 400)


async def test_nobody_elses_upload_is_there(client: TestClient, db: Database) -> None:
    upload_id = await send(client, b"x")
    await db.execute("update upload set created_by = 'key:somebody'")
    message = await reason_of(await client.post("/v1/jobs/import", json={"format": "zip", "upload_id": upload_id}), 404)
    assert message == f"upload {upload_id}: there is none"
    assert (await client.get(f"/v1/uploads/{upload_id}")).status == 404
