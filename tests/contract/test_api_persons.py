"""Unknown persons, from the first stranger to a name, and back."""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from api.services import ApiServices
from core.ports import Database
from core.schema import Array
from core.types import F32
from sightings.feedback import FeedbackStore
from sightings.forgetting import forget_subject
from sightings.people_run import Placing
from sightings.people_store import PersonStore
from sightings.record import Arrival, SeenFace
from sightings.taking import Said
from tests.builders.api import MODEL, calibration, picture, services
from tests.builders.sightings import NOW_S, arrival

ADA, BEA = (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)


@dataclass
class ListedExemplars:
    """All of them, one by one."""

    faces: dict[str, SeenFace] = field(default_factory=dict)

    async def put(self, faces: Sequence[SeenFace]) -> None:
        self.faces |= {face.sighting_id: face for face in faces}

    async def remove(self, sighting_ids: Sequence[str]) -> None:
        for key in sighting_ids:
            self.faces.pop(key, None)

    async def near(self, vector: F32, *, k: int, least: float) -> list[str]:
        scores = {key: float(face.embedding @ vector) for key, face in self.faces.items()}
        return sorted((key for key, score in scores.items() if score >= least), key=lambda key: -scores[key])[:k]


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db)


@pytest.fixture
def placing(db: Database, behind: ApiServices) -> Placing:
    return placing_over(db, behind)


def placing_over(db: Database, behind: ApiServices, **changes: Any) -> Placing:
    return Placing(db=db, exemplars=ListedExemplars(), calibration=calibration(), far=1e-2, metrics=behind.metrics, **changes)


def seen(track: str, *values: float, **changes: Any) -> Arrival:
    vector = np.array(values, np.float32)
    shown = picture(ADA)
    same: dict[str, Any] = {
        "model": MODEL,
        "closed": True,
        "embedding": Array.pack(np.asarray(vector / np.linalg.norm(vector), np.float32)),
    }
    made = arrival(track, **(same | changes))
    return Arrival(sighting=made.sighting, thumbnail=shown)


def visits(*cameras: str, values: tuple[float, ...] = ADA, start: float = 0.0) -> list[Arrival]:
    return [
        seen(f"{camera}/{start}/{n}", *(np.array(values) + 0.1 * n), camera=camera, first_s=start + 100 * n)
        for n, camera in enumerate(cameras)
    ]


async def ok(response: ClientResponse, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def persons(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await ok(await client.get("/v1/persons", params=query)))["persons"]
    return found


async def store(behind: ApiServices, placing: Placing, *groups: list[Arrival]) -> None:
    for group in groups:
        await behind.sightings.upsert(group, now_s=NOW_S)
    while await placing.place_all():
        pass


async def test_strangers_who_come_back_are_one_person(client: TestClient, behind: ApiServices, placing: Placing) -> None:
    once = seen("once", 0, 0, 0, 1, first_s=500)
    poor = seen("poor", *ADA, quality=0.2)
    open_still = seen("open", *ADA, closed=False)
    await store(behind, placing, visits("door", "hall", "door"), visits("hall", "hall", values=BEA, start=1000), [once, poor, open_still])
    bea, ada = await persons(client)
    assert (ada["sightings"], ada["first_at"], ada["last_at"]) == (3, "2025-10-09T08:53:20Z", "2025-10-09T08:56:45Z")
    assert bea["sightings"] == 2
    assert [one["person_id"] for one in await persons(client, order="most")] == [ada["person_id"], bea["person_id"]]
    assert len(await persons(client, min_sightings=1)) == 3
    detail = await ok(await client.get(f"/v1/persons/{ada['person_id']}"))
    assert [one["camera"] for one in detail["sightings"]] == ["door", "hall", "door"]
    first = await ok(await client.get("/v1/persons", params={"limit": 1, "order": "most"}))
    second = await ok(await client.get("/v1/persons", params={"limit": 1, "order": "most", "cursor": first["next_cursor"]}))
    assert [one["person_id"] for one in first["persons"] + second["persons"]] == [ada["person_id"], bea["person_id"]]
    assert second["next_cursor"] is None


async def test_a_restart_goes_on_where_it_was(client: TestClient, db: Database, behind: ApiServices, placing: Placing) -> None:
    await store(behind, placing, visits("door", "hall"))
    again = placing_over(db, behind)
    await again.load()
    await store(behind, again, visits("yard", values=(1, 0.05, 0, 0), start=1000))
    (ada,) = await persons(client)
    assert ada["sightings"] == 3


async def test_one_process_places_and_another_takes_over(client: TestClient, db: Database, behind: ApiServices) -> None:
    await behind.sightings.upsert(visits("door", "hall"), now_s=NOW_S)
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(placing_over(db, behind, poll_s=0.02).run()) for _ in range(2)]
        while not await persons(client):  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()


async def test_erased_and_expired_sightings_leave_their_person(
    client: TestClient, db: Database, behind: ApiServices, placing: Placing
) -> None:
    await store(behind, placing, visits("door", "hall", "door"))
    (ada,) = await persons(client)
    await db.execute("update sighting set stored_at = stored_at - interval '1 day' where camera = 'hall'")
    await behind.sightings.delete_stored_before(NOW_S - 1, limit=10)
    (ada,) = await persons(client)
    assert ada["sightings"] == 2
    bob = await ok(await client.post("/v1/subjects", json={"name": "Bob"}), 201)
    said = FeedbackStore(db, episode_gap=timedelta(seconds=30))
    await said.wrong_person(ada["best_sighting_id"], bob["subject_id"], Said(actor="user 1", name="guard"))
    (newest,) = await db.fetch("select max(event_id) as event_id from event")
    assert (await ok(await client.delete(f"/v1/persons/{ada['person_id']}")))["sightings"] == 2
    told = await db.fetch("select kind, count(*) from event where event_id > $1 group by kind order by kind", newest["event_id"])
    assert [tuple(row.values()) for row in told] == [("person", 1), ("sighting", 2)]  # who keeps their faces in memory forgets them
    assert (await said.query(limit=9))[0] == []
    assert (await client.get(f"/v1/persons/{ada['person_id']}")).status == 404
    rows = await db.fetch("select embedding, thumbnail, person_id, reason from sighting")
    assert [tuple(row.values()) for row in rows] == [(None, None, None, "erased")] * 2
    assert await db.fetch("select * from person_exemplar") == []


async def test_a_person_is_named_and_the_naming_undone(client: TestClient, db: Database, behind: ApiServices, placing: Placing) -> None:
    await store(behind, placing, visits("door", "hall", "door"))
    (ada,) = await persons(client)
    path = f"/v1/persons/{ada['person_id']}"
    named = await ok(await client.post(f"{path}/name", json={"name": "Ada Lovelace"}))
    assert (named["sightings"], named["visible"], named["person"]["subject_id"]) == (3, True, named["subject_id"])
    assert named["enrolled"] >= 1
    listed = (await ok(await client.get("/v1/sightings")))["sightings"]
    assert [one["subject"] for one in listed] == ["Ada Lovelace"] * 3
    assert len((await ok(await client.get("/v1/episodes")))["episodes"]) == 3
    assert (await client.post(f"{path}/name", json={"name": "Bea"})).status == 409
    assert (await client.delete(path)).status == 409  # it is the subject that is to be erased
    undone = await ok(await client.delete(f"{path}/name"))
    assert (undone["subject_id"], undone["sightings"]) == (None, 3)
    listed = (await ok(await client.get("/v1/sightings")))["sightings"]
    assert [(one["outcome"], one["subject"]) for one in listed] == [("stranger", None)] * 3
    assert (await ok(await client.get("/v1/episodes")))["episodes"] == []
    assert (await client.get(f"/v1/subjects/{named['subject_id']}")).status == 404
    assert (await ok(await client.delete(path)))["sightings"] == 3  # embeddings were there still


async def test_a_person_can_be_a_subject_that_is_there_and_is_erased_with_it(
    client: TestClient, db: Database, behind: ApiServices, placing: Placing
) -> None:
    await store(behind, placing, visits("door", "hall"))
    (ada,) = await persons(client)
    subject = await ok(await client.post("/v1/subjects", json={"name": "Ada"}), 201)
    await ok(await client.post(f"/v1/persons/{ada['person_id']}/name", json={"subject_id": subject["subject_id"]}))
    await forget_subject(db, subject["subject_id"])
    assert await persons(client) == []
    assert [row["embedding"] for row in await db.fetch("select embedding from sighting")] == [None, None]


async def test_merge_and_unmerge(client: TestClient, behind: ApiServices, placing: Placing) -> None:
    await store(behind, placing, visits("door", "hall", "door"), visits("hall", "hall", values=BEA, start=1000))
    bea, ada = await persons(client)
    await ok(await client.patch(f"/v1/persons/{bea['person_id']}", json={"label": "red helmet"}))
    merged = await ok(await client.post(f"/v1/persons/{ada['person_id']}/merge", json={"merged_id": bea["person_id"]}))
    assert (merged["sightings"], len(await persons(client))) == (5, 1)
    back = await ok(await client.post(f"/v1/persons/{ada['person_id']}/unmerge"))
    assert (back["person_id"], back["sightings"], back["label"]) == (bea["person_id"], 2, "red helmet")
    assert (await ok(await client.get(f"/v1/persons/{ada['person_id']}")))["person"]["sightings"] == 3
    assert (await client.post(f"/v1/persons/{ada['person_id']}/unmerge")).status == 409
    assert (await client.post(f"/v1/persons/{ada['person_id']}/merge", json={"merged_id": ada["person_id"]})).status == 422


async def test_split(client: TestClient, behind: ApiServices, placing: Placing) -> None:
    await store(behind, placing, visits("door", "hall", "yard"))
    (ada,) = await persons(client)
    path = f"/v1/persons/{ada['person_id']}"
    sightings = (await ok(await client.get(path)))["sightings"]
    wrong = [one["sighting_id"] for one in sightings if one["camera"] == "hall"]
    other = await ok(await client.post(f"{path}/split", json={"sighting_ids": wrong}), 201)
    assert (other["sightings"], other["best_sighting_id"]) == (1, wrong[0])
    assert (await ok(await client.get(path)))["person"]["sightings"] == 2
    assert (await client.post(f"{path}/split", json={"sighting_ids": wrong})).status == 409
    assert (await client.post(f"{path}/split", json={"sighting_ids": [str(uuid.uuid4())]})).status == 409


async def test_labels_have_versions(client: TestClient, db: Database, behind: ApiServices, placing: Placing) -> None:
    await store(behind, placing, visits("door", "hall"))
    (ada,) = await persons(client)
    path = f"/v1/persons/{ada['person_id']}"
    before = (await client.get(path)).headers["ETag"]
    changed = await client.patch(path, json={"label": "courier"}, headers={"If-Match": before})
    assert (await ok(changed))["label"] == "courier"
    assert changed.headers["ETag"] != before
    assert (await client.patch(path, json={"label": None}, headers={"If-Match": before})).status == 412
    assert b"courier" not in (await db.fetch("select label from person"))[0]["label"]


async def test_who_sees_some_cameras_sees_what_those_saw(client: TestClient, db: Database, behind: ApiServices, placing: Placing) -> None:
    await store(behind, placing, visits("door", "hall", "door"))
    (ada,) = await persons(client)
    at_hall = await PersonStore(db).get(ada["person_id"], cameras=["hall"])
    assert (at_hall.sightings, at_hall.first_s) == (1, NOW_S + 100)
    found, _ = await PersonStore(db).page(order="most", least=1, named=None, cameras=["hall"], limit=5, cursor=None)
    assert [one.sightings for one in found] == [1]
    assert (await PersonStore(db).page(order="newest", least=1, named=None, cameras=["yard"], limit=5, cursor=None))[0] == []
