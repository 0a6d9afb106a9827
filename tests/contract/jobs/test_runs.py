"""Jobs as they run: leases, kills, cancelling, reports, the call at the end."""

import asyncio
import csv
import io
import json
import uuid

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.jobs.files import open_files
from api.jobs.lease import Lease, LeaseLostError, claim
from api.jobs.record import Done, NewItem
from api.jobs.runner import JobRunner
from api.jobs.store import JobStore
from api.webhooks.wants import signature
from core.ports import Database
from core.settings import OutboundSettings
from enrollment.store import GalleryStore
from sightings.forgetting import forget_subject
from tests.builders.http import ok, reason_of
from tests.builders.jobs import ANN, BOB, finished, imported, npz, send, zipped
from tests.builders.webhooks import receiver


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
    assert await reason_of(await client.post(f"{path}/cancel"), 409) == f"job {job['job_id']}: has ended already"
    await ok(await client.post(f"{path}/retry", json={}), 202)
    assert (await finished(db, runner, job["job_id"])).state == "succeeded"
    assert await reason_of(await client.post(f"{path}/retry", json={}), 409) == f"job {job['job_id']}: nothing is left to do again"


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
