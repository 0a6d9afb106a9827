"""Batch recognition of pictures and videos."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient

from api.jobs.runner import JobRunner
from api.services import ApiServices
from core.ports import Database, MatchAnswer
from core.types import F32
from ingest.source import ClipWriter
from recognize.recognizer import Recognizer
from tests.builders.api import Platform, picture
from tests.builders.http import ok
from tests.builders.jobs import ANN, BOB, finished, imported, once, open_runner, recognized, send, told, zipped
from tests.builders.painted import ListMatcher, painted
from tests.builders.recognizers import make_recognizer


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
