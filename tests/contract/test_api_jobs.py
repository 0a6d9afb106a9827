"""Uploads and jobs over HTTP, on a real database, with a real shard and painted people."""

import asyncio
import csv
import hashlib
import io
import json
import time
import uuid
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.errors import UnauthorizedError
from api.jobs.files import open_files
from api.jobs.lease import Lease, LeaseLostError, claim
from api.jobs.record import Done, NewItem
from api.jobs.runner import JobRunner
from api.jobs.store import JobStore
from api.services import ApiServices
from api.storage.store import check_token
from api.webhooks.wants import signature
from core.ports import Database, MatchAnswer
from core.settings import OutboundSettings, StorageSettings
from core.types import F32
from enrollment.store import GalleryStore
from ingest.source import ClipWriter
from recognize.recognizer import Recognizer
from sightings.forgetting import forget_subject
from tests.builders.api import ADMIN, Platform, picture, services
from tests.builders.gallery import png
from tests.builders.jobs import finished, npz, once, open_runner, send, told, zipped
from tests.builders.painted import ListMatcher, painted
from tests.builders.recognizers import make_recognizer
from tests.builders.webhooks import receiver

ClientMaker = Callable[..., Awaitable[TestClient]]
ANN, BOB = (png(painted({person: (260, 120)}, size_px=120)) for person in (1, 4))


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def behind(db: Database, platform: Platform) -> ApiServices:
    return services(db, platform=platform)


@pytest.fixture
async def client(behind: ApiServices, aiohttp_client: ClientMaker) -> TestClient:
    return await aiohttp_client(build_app(behind), headers=ADMIN)


@pytest.fixture
async def runner(db: Database, behind: ApiServices, tmp_path: Path) -> AsyncIterator[JobRunner]:
    async with open_runner(db, tmp_path, objects=behind.objects, still=behind.still, max_attempts=3) as one:
        yield one


async def ok(response: Any, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def refused(response: Any, status: int) -> str:
    assert response.status == status, await response.text()
    return str((await response.json())["error"]["message"])


async def imported(client: TestClient, db: Database, runner: JobRunner, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make an import, do it, and return the job and its items."""
    job = await ok(await client.post("/v1/jobs/import", json=body), 202)
    await finished(db, runner, job["job_id"])
    items = (await ok(await client.get(f"/v1/jobs/{job['job_id']}/items?limit=500")))["items"]
    return await ok(await client.get(f"/v1/jobs/{job['job_id']}")), items


# uploads


async def test_an_upload_is_sent_with_its_token_alone(client: TestClient, behind: ApiServices, aiohttp_client: ClientMaker) -> None:
    digest = hashlib.sha256(b"people").hexdigest()
    target = await ok(await client.post("/v1/uploads", json={"name": "people.zip", "sha256": digest}), 201)
    stranger = await aiohttp_client(build_app(behind))
    assert (await ok(await client.get(f"/v1/uploads/{target['upload_id']}")))["state"] == "waiting"
    stored = await ok(await stranger.put(target["url"], data=b"people", headers=target["headers"]))
    assert (stored["state"], stored["size_bytes"], stored["sha256"]) == ("stored", 6, digest)
    message = await refused(await stranger.put(target["url"], data=b"people", headers=target["headers"]), 409)
    assert message == f"upload {target['upload_id']}: is there already; ask for another one"


async def test_a_token_opens_no_other_upload_and_none_is_refused(client: TestClient) -> None:
    one = await ok(await client.post("/v1/uploads", json={}), 201)
    two = await ok(await client.post("/v1/uploads", json={}), 201)
    octets = {"Content-Type": "application/octet-stream"}
    assert (
        await refused(await client.put(two["url"], data=b"x", headers=one["headers"]), 401)
        == "X-Upload-Token: is not the one of this upload"
    )
    assert await refused(await client.put(two["url"], data=b"x", headers=octets), 401) == "X-Upload-Token: is not the one of this upload"


async def test_a_token_expires(client: TestClient, behind: ApiServices) -> None:
    target = await ok(await client.post("/v1/uploads", json={}), 201)
    key, token = uuid.UUID(target["upload_id"]), target["headers"]["X-Upload-Token"]
    check_token(behind.db.vault, key, token)
    with pytest.raises(UnauthorizedError, match=r"^X-Upload-Token: has expired; ask for another upload$"):
        check_token(behind.db.vault, key, token, now_s=time.time() + 3601)


async def test_what_is_too_large_empty_or_another_file_is_not_stored(behind: ApiServices, aiohttp_client: ClientMaker) -> None:
    settings = behind.settings.model_copy(update={"storage": StorageSettings(url="memory:", max_upload_bytes=1024)})
    client = await aiohttp_client(build_app(replace(behind, settings=settings)), headers=ADMIN)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async def target(**body: str) -> Any:
        return await ok(await client.post("/v1/uploads", json=body), 201)

    large = await target()
    message = await refused(await client.put(large["url"], data=endless(), headers=large["headers"]), 413)
    assert message == "the upload has more than the 1024 bytes that are taken (storage.max_upload_bytes)"
    empty = await target()
    assert await refused(await client.put(empty["url"], data=b"", headers=empty["headers"]), 422) == "the upload is empty"
    other = await target(sha256="0" * 64)
    message = await refused(await client.put(other["url"], data=b"x", headers=other["headers"]), 422)
    assert message == "the upload's content is not that of the announced sha256; ask for another one and send it again"
    assert [one async for one in behind.objects.under("uploads")] == []


# imports


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
    assert await refused(await client.post("/v1/jobs/import", json=body), 422) == message


@pytest.mark.parametrize("prefix", ["../a", "/a", "a/../b", "a//b", "a/", ".", "a/.b", "a\\b"])
async def test_a_prefix_leads_nowhere_else(client: TestClient, prefix: str) -> None:
    await refused(await client.post("/v1/jobs/import", json={"format": "folder", "prefix": prefix}), 400)


async def test_nobody_elses_upload_is_there(client: TestClient, db: Database) -> None:
    upload_id = await send(client, b"x")
    await db.execute("update upload set created_by = 'key:somebody'")
    message = await refused(await client.post("/v1/jobs/import", json={"format": "zip", "upload_id": upload_id}), 404)
    assert message == f"upload {upload_id}: there is none"
    assert (await client.get(f"/v1/uploads/{upload_id}")).status == 404


async def test_photos_that_a_killed_process_had_stored_are_told_as_enrolled(client: TestClient, db: Database, runner: JobRunner) -> None:
    upload = await send(client, zipped(ann__1=ANN, bob__1=BOB))
    job = await ok(await client.post("/v1/jobs/import", json={"format": "zip", "upload_id": upload}), 202)
    lease = await claim(db, uuid.uuid4(), 60)
    assert lease is not None
    async with open_files(runner.objects, "default", runner.settings.data_dir) as files, runner.works["import"].open(lease, files) as on:
        await lease.add_items(await on.list_items())
        items = await lease.take(on.batch, most=3)
        lost = Lease(db, lease.job, uuid.uuid4(), 60)
        with pytest.raises(LeaseLostError, match="another process has it"):
            await on.work(items, lost)  # stores both photos, and dies before it says so
    await db.execute("update job set lease_until = now() - interval '1 second'")
    assert (await finished(db, runner, job["job_id"])).state == "succeeded"
    again = (await ok(await client.get(f"/v1/jobs/{job['job_id']}/items")))["items"]
    assert [(one["attempts"], one["result"]["status"]) for one in again] == [(2, "enrolled")] * 2
    assert (await GalleryStore(db, forget=forget_subject).counts()).references == 2


async def test_what_kills_the_process_again_and_again_is_found_and_set_apart(db: Database, runner: JobRunner, client: TestClient) -> None:
    upload = await send(client, npz(1000))
    job = await ok(await client.post("/v1/jobs/import", json={"format": "embeddings", "upload_id": upload}), 202)
    poison, sizes = 700, []
    for _ in range(100):
        lease = await claim(db, uuid.uuid4(), 60)
        if lease is None:
            break
        if not lease.job.listed:
            await lease.add_items([NewItem(input={"file": str(n)}) for n in range(1000)])
        while items := await lease.take(500, most=5):
            if poison in [item.seq for item in items]:
                sizes.append(len(items))
                break  # dies
            await lease.finish([Done(seq=item.seq, state="done") for item in items])
        else:
            await lease.end()
        await db.execute("update job set lease_until = now() - interval '1 second' where finished_at is null")
    left = (await ok(await client.get(f"/v1/jobs/{job['job_id']}/items?state=set_apart")))["items"]
    assert [(one["seq"], one["reason"], one["detail"]) for one in left] == [
        (700, "crash", "the process ended 5 times while this was looked at")
    ]
    assert sizes == [500, 62, 7, 1, 1]
    view = await ok(await client.get(f"/v1/jobs/{job['job_id']}"))
    assert (view["state"], view["done"], view["set_apart"]) == ("partial", 999, 1)


async def test_two_runners_share_the_work_and_a_lost_lease_writes_nothing(client: TestClient, db: Database) -> None:
    for number in range(2):
        upload = await send(client, npz(2, first=number))
        await ok(await client.post("/v1/jobs/import", json={"format": "embeddings", "upload_id": upload}), 202)
    found = await asyncio.gather(*(claim(db, uuid.uuid4(), 60) for _ in range(4)))
    held = [one for one in found if one is not None]
    assert len({one.job.job_id for one in held}) == len(held) == 2
    first = held[0]
    await first.add_items([NewItem(input={"file": "a"})])
    (item,) = await first.take(1, most=5)
    await db.execute("update job set lease_until = now() - interval '1 second' where job_id = $1", first.job.job_id)
    other = await claim(db, uuid.uuid4(), 60)
    assert other is not None
    assert other.job.job_id == first.job.job_id
    with pytest.raises(LeaseLostError):
        await first.finish([Done(seq=item.seq, state="done")])
    await first.pause(0)
    await other.renew()
    assert (await JobStore(db).items(first.job.job_id))[0].state == "waiting"


# jobs


async def test_reports_have_a_line_for_each_row_and_no_formulas(client: TestClient, db: Database, runner: JobRunner) -> None:
    data = zipped(**{"=cmd()__1.png": ANN, "bob__+1.png": b"x"})
    job, _ = await imported(client, db, runner, format="zip", upload_id=await send(client, data))
    text = await (await client.get(f"/v1/jobs/{job['job_id']}/report.csv")).text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["file"], row["subject"], row["state"], row["status"]) for row in rows] == [
        ("'=cmd()/1.png", "'=cmd()", "done", "enrolled"),
        ("bob/+1.png", "bob", "rejected", "rejected"),
    ]
    lines = [json.loads(line) for line in (await (await client.get(f"/v1/jobs/{job['job_id']}/report.jsonl")).text()).splitlines()]
    assert [(line["seq"], line["file"], line["state"]) for line in lines] == [(0, "=cmd()/1.png", "done"), (1, "bob/+1.png", "rejected")]


async def test_jobs_are_listed_newest_first_in_pages_and_items_too(client: TestClient, db: Database, runner: JobRunner) -> None:
    ids = []
    for number in range(3):
        job, _ = await imported(client, db, runner, format="embeddings", upload_id=await send(client, npz(3, first=number * 10)))
        ids.append(job["job_id"])
    page = await ok(await client.get("/v1/jobs?limit=2"))
    rest = await ok(await client.get(f"/v1/jobs?limit=2&cursor={page['next_cursor']}"))
    assert [job["job_id"] for job in page["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert (await ok(await client.get("/v1/jobs?state=failed")))["jobs"] == []
    items = await ok(await client.get(f"/v1/jobs/{ids[0]}/items?limit=2"))
    more = await ok(await client.get(f"/v1/jobs/{ids[0]}/items?limit=2&cursor={items['next_cursor']}"))
    assert [one["seq"] for one in items["items"] + more["items"]] == [0, 1, 2]
    assert (await client.get(f"/v1/jobs/{ids[0]}/items?cursor=x")).status in (400, 422)


async def test_a_job_that_waits_is_cancelled_at_once_and_can_be_taken_up_again(client: TestClient, db: Database, runner: JobRunner) -> None:
    job = await ok(await client.post("/v1/jobs/import", json={"format": "embeddings", "upload_id": await send(client, npz(2))}), 202)
    path = f"/v1/jobs/{job['job_id']}"
    assert (await ok(await client.post(f"{path}/cancel")))["state"] == "cancelled"
    assert await runner.run_one() is False
    assert await refused(await client.post(f"{path}/cancel"), 409) == f"job {job['job_id']}: has ended already"
    await ok(await client.post(f"{path}/retry", json={}), 202)
    assert (await finished(db, runner, job["job_id"])).state == "succeeded"
    assert await refused(await client.post(f"{path}/retry", json={}), 409) == f"job {job['job_id']}: nothing is left to do again"


async def test_a_version_grows_and_events_tell(client: TestClient, db: Database, runner: JobRunner) -> None:
    job, _ = await imported(client, db, runner, format="embeddings", upload_id=await send(client, npz(2)))
    told_of = await db.fetch("select key, revision, collection from event where kind = 'job' order by event_id")
    assert {row["key"] for row in told_of} == {job["job_id"]}
    assert [row["revision"] for row in told_of] == sorted({row["revision"] for row in told_of})
    assert told_of[-1]["revision"] == job["version"]
    assert {row["collection"] for row in told_of} == {"default"}
    assert await db.fetch("select from event where kind = 'gallery'")


async def test_uploads_go_when_a_job_has_used_all_of_them_and_stay_for_a_retry(client: TestClient, db: Database, runner: JobRunner) -> None:
    used = await send(client, zipped(ann__1=ANN))
    partly = await send(client, zipped(bob__1=BOB, bob__2=b"x"))
    await imported(client, db, runner, format="zip", upload_id=used)
    await imported(client, db, runner, format="zip", upload_id=partly)
    await runner.keep_house()
    assert [one.key async for one in runner.objects.under("uploads")] == [f"uploads/{partly}"]
    assert (await client.get(f"/v1/uploads/{used}")).status == 404
    await db.execute("update upload set created_at = now() - interval '8 days'; update job set finished_at = now() - interval '31 days'")
    await runner.keep_house()
    assert [one async for one in runner.objects.under("uploads")] == []
    assert (await db.fetch("select count(*) as n from job_item"))[0]["n"] == 0


# recognition


async def recognized(client: TestClient, db: Database, runner: JobRunner, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    job = await ok(await client.post("/v1/jobs/recognize", json=body), 202)
    await finished(db, runner, job["job_id"])
    items = (await ok(await client.get(f"/v1/jobs/{job['job_id']}/items")))["items"]
    return await ok(await client.get(f"/v1/jobs/{job['job_id']}")), items


@pytest.fixture
async def alice(db: Database, platform: Platform) -> str:
    """Alice, enrolled and known to the matcher under the id that the store gave her."""
    subject = await GalleryStore(db, forget=forget_subject).make_subject("alice", collection="default")
    platform.matcher.known["alice"] = np.array([1, 0, 0, 0], np.float32)
    wanted = str(uuid.uuid5(uuid.NAMESPACE_DNS, "alice"))
    await db.execute("update subject set subject_id = $2 where subject_id = $1", subject.subject_id, wanted)
    return wanted


async def test_pictures_are_recognized_from_uploads_zip_and_inbox(client: TestClient, db: Database, runner: JobRunner, alice: str) -> None:
    await runner.objects.put("inbox/default/album/c.png", once(picture((1, 0, 0, 0), (0, 1, 0, 0))))
    upload = await send(client, picture((1, 0, 0, 0)), "a.png")
    zip_upload = await send(client, zipped(**{"b.png": picture(), "broken.png": b"\x89PNG\r\n", "readme.txt": b"hello"}))
    job, items = await recognized(client, db, runner, upload_ids=[upload], zip_upload_id=zip_upload, prefix="album", k=1)
    assert told(items) == [
        ("a.png", "done", None),
        ("b.png", "done", None),
        ("broken.png", "rejected", "unreadable"),
        ("readme.txt", "rejected", "unsupported"),
        ("c.png", "done", None),
    ]
    (face,) = items[0]["result"]["faces"]
    assert (face["outcome"], face["candidates"][0]["subject_id"], face["candidates"][0]["match"]) == ("subject", alice, True)
    assert items[1]["result"]["faces"] == []
    assert [one["outcome"] for one in items[4]["result"]["faces"]] == ["subject", "stranger"]
    assert job["state"] == "partial"
    await runner.keep_house()
    lines = b"".join([piece async for piece in runner.objects.read(f"jobs/{job['job_id']}/results.jsonl")]).splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.png", "b.png", "broken.png", "readme.txt", "c.png"]


async def test_while_the_matcher_is_away_a_job_waits_and_nothing_is_set_apart(
    client: TestClient, db: Database, runner: JobRunner, platform: Platform, alice: str
) -> None:
    upload = await send(client, picture((1, 0, 0, 0)), "a.png")
    job = await ok(await client.post("/v1/jobs/recognize", json={"upload_ids": [upload]}), 202)
    platform.matcher.away = True
    for _ in range(6):
        assert await runner.run_one()
        await db.execute("update job set due_at = now()")
    view = await ok(await client.get(f"/v1/jobs/{job['job_id']}"))
    assert (view["state"], view["reason"], view["waiting"]) == ("running", "matcher: no shard answers", 1)
    platform.matcher.away = False
    assert (await finished(db, runner, job["job_id"])).state == "succeeded"


async def test_a_poison_item_is_set_apart_with_its_reason_and_blocks_nothing(
    client: TestClient, db: Database, runner: JobRunner, behind: ApiServices, alice: str
) -> None:
    class Poisoned:
        async def recognize(self, image: Any, **given: Any) -> Any:
            if image.shape[0] == 3:
                raise RuntimeError("CUDA error: an illegal memory access")
            return await behind.still.recognize(image, **given)

    work: Any = runner.works["recognize"]
    runner.works = {**runner.works, "recognize": replace(work, still=Poisoned())}
    for number in range(6):
        rows = [(1, 0, 0, 0)] * (3 if number == 2 else 1)
        await runner.objects.put(f"inbox/default/album/{number}.png", once(picture(*rows)))
    job, items = await recognized(client, db, runner, prefix="album")
    assert told(items) == [(f"{n}.png", "set_apart" if n == 2 else "done", "error" if n == 2 else None) for n in range(6)]
    assert items[2]["detail"] == "RuntimeError: CUDA error: an illegal memory access"
    assert items[2]["attempts"] == 3
    assert (job["state"], job["set_apart"]) == ("partial", 1)
    runner.works = {**runner.works, "recognize": work}
    await ok(await client.post(f"/v1/jobs/{job['job_id']}/retry", json={"states": ["set_apart"]}), 202)
    assert (await finished(db, runner, job["job_id"])).state == "succeeded"


async def test_an_erased_subject_is_in_no_result_and_no_item(client: TestClient, db: Database, runner: JobRunner, alice: str) -> None:
    upload = await send(client, picture((1, 0, 0, 0)), "a.png")
    job, items = await recognized(client, db, runner, upload_ids=[upload], k=1)
    people = zipped(alice__1=ANN, bob__1=BOB, eve__1=ANN)
    enrolled, rows = await imported(client, db, runner, format="zip", upload_id=await send(client, people))
    assert "alice" in json.dumps(items)
    assert "alice" in rows[2]["detail"]
    await runner.keep_house()

    receipt = await ok(await client.delete(f"/v1/subjects/{alice}"))
    assert receipt["covered"]["job_items"] >= 2
    await runner.keep_house()
    for job_id in (job["job_id"], enrolled["job_id"]):
        text = json.dumps(await ok(await client.get(f"/v1/jobs/{job_id}/items")))
        assert "alice" not in text
        assert alice not in text
    stored = b"".join([piece async for piece in runner.objects.read(f"jobs/{job['job_id']}/results.jsonl")])
    assert alice.encode() not in stored
    (face,) = json.loads(stored)["result"]["faces"]
    assert (face["outcome"], face["reason"], face["candidates"]) == ("unclear", "erased", [])
    assert [one async for one in runner.objects.under("uploads")] == []


async def test_results_are_sealed_in_the_database(client: TestClient, db: Database, runner: JobRunner, alice: str) -> None:
    await recognized(client, db, runner, upload_ids=[await send(client, picture((1, 0, 0, 0)))])
    (row,) = await db.fetch("select result from job_item")
    assert db.vault.is_newest(row["result"])
    assert b"alice" not in row["result"]


async def test_a_video_becomes_sightings(
    client: TestClient, db: Database, behind: ApiServices, tmp_path: Path, executor: ThreadPoolExecutor, alice: str
) -> None:
    clip = tmp_path / "walk.mp4"
    with ClipWriter(clip, fps=10, gop=10) as writer:
        for number in range(20):
            writer.write(painted({1: (100 + 4 * number, 100)}, size_px=120))
    asked: list[str] = []

    def recognizer(collection: str) -> Recognizer:
        asked.append(collection)
        return make_recognizer(executor, matcher=Known({1: "alice"}))

    class Known(ListMatcher):
        async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
            found = await super().search(probes, model=model, collection=collection, k=k)
            return replace(found, candidates=tuple(tuple(replace(one, subject_id=alice) for one in row) for row in found.candidates))

    async with open_runner(db, tmp_path, objects=behind.objects, still=behind.still, recognizer=recognizer) as runner:
        await runner.objects.put("inbox/staff/day/walk.mp4", once(clip.read_bytes()))
        await runner.objects.put("inbox/staff/day/broken.mp4", once(clip.read_bytes()[:200]))
        job, items = await recognized(client, db, runner, prefix="day", collection="staff", every_s=0)
    assert told(items) == [("broken.mp4", "rejected", "unreadable"), ("walk.mp4", "done", None)]
    result = items[1]["result"]
    assert (result["type"], result["complete"], asked) == ("video", True, ["staff", "staff"])
    (seen,) = result["sightings"]
    assert (seen["outcome"], seen["subject"], seen["faces"] >= 15) == ("subject", "alice", True)
    assert (seen["first_s"], seen["last_s"]) == (0.0, 1.9)
    assert job["state"] == "partial"
    assert list((tmp_path / "work").glob("*")) == [], "copies are gone"


# the call at the end


async def test_the_end_is_told_signed_and_again_until_it_is_taken(client: TestClient, db: Database, runner: JobRunner) -> None:
    secret = "a secret of 16 or more"
    async with receiver() as hook:
        hook.answers.append(web.Response(status=500))
        upload = await send(client, npz(2))
        job, _ = await imported(
            client, db, runner, format="embeddings", upload_id=upload, callback_url=hook.url, callback_secret=secret.replace(" ", "-")
        )
        await runner.keep_house()
        await hook.next()
        await db.execute("update job set callback_due_at = now() where callback_due_at is not null")
        await runner.keep_house()
        headers, body = await hook.next()
    assert body == {
        "event": "job",
        "job_id": job["job_id"],
        "kind": "import",
        "state": "succeeded",
        "version": job["version"],
        "total": 2,
        "done": 2,
        "rejected": 0,
        "set_apart": 0,
    }
    stamp = int(headers["X-Sightline-Signature"].removeprefix("t=").partition(",")[0])
    assert headers["X-Sightline-Signature"] == signature(secret.replace(" ", "-"), msgspec.json.encode(body), stamp)
    (row,) = await db.fetch("select callback_due_at, callback_tries, callback from job")
    assert (row["callback_due_at"], row["callback_tries"]) == (None, 2)
    assert b"127.0.0.1" not in row["callback"]


async def test_cancelling_a_job_that_waits_is_told_and_one_that_goes_on_is_not(client: TestClient, db: Database, runner: JobRunner) -> None:
    async with receiver() as hook:
        hook.answers.append(web.Response(status=500))
        given = {"format": "embeddings", "upload_id": await send(client, npz(2))}
        wanted = given | {"callback_url": hook.url, "callback_secret": "0123456789abcdef"}
        job = await ok(await client.post("/v1/jobs/import", json=wanted), 202)
        assert (await ok(await client.post(f"/v1/jobs/{job['job_id']}/cancel")))["state"] == "cancelled"
        await runner.keep_house()
        assert (await hook.next())[1]["state"] == "cancelled"
        await ok(await client.post(f"/v1/jobs/{job['job_id']}/retry", json={}), 202)
        await db.execute("update job set callback_due_at = now() where callback_due_at is not null")
        await runner.keep_house()
        assert hook.got.empty()
        await finished(db, runner, job["job_id"])
        await runner.keep_house()
        assert (await hook.next())[1]["state"] == "succeeded"


async def test_the_call_never_leads_into_this_network(client: TestClient, db: Database, runner: JobRunner) -> None:
    runner.settings = runner.settings.model_copy(update={"outbound": OutboundSettings()})
    async with receiver() as hook:
        upload = await send(client, npz(2))
        body = {"callback_url": hook.url, "callback_secret": "0123456789abcdef"}
        await imported(client, db, runner, format="embeddings", upload_id=upload, **body)
        await runner.keep_house()
        assert hook.got.empty()
    assert (await db.fetch("select callback_due_at from job"))[0]["callback_due_at"] is None


@pytest.mark.parametrize("kind", ["import", "recognize"])
async def test_where_jobs_are_made_is_no_job(client: TestClient, kind: str) -> None:
    response = await client.get(f"/v1/jobs/{kind}")
    assert (response.status, response.headers["Allow"]) == (405, "POST")
