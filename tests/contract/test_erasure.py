"""An erasure covers everything that is kept of a person, and leaves a receipt without personal data."""

import asyncio
import json
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from api.services import ApiServices
from core.errors import NotFoundError
from core.ports import Database
from enrollment.merging import MergeStore
from enrollment.store import GalleryStore
from sightings.naming import Hands
from sightings.watchlists import WatchlistStore
from tests.builders.api import services
from tests.builders.sightings import NOW_S, arrival


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db)


async def ok(response: ClientResponse, status: int = 200) -> Any:
    assert response.status == status, await response.text()
    return await response.json()


async def person(client: TestClient, behind: ApiServices, name: str) -> str:
    """Make somebody whom everything remembers: two sightings of one episode, an alert, a watchlist."""
    subject_id: str = (await ok(await client.post("/v1/subjects", json={"name": name}), 201))["subject_id"]
    lists = WatchlistStore(behind.db)
    await lists.add(name.lower(), collection="default")
    await lists.put(name.lower(), [subject_id])
    arrivals = [arrival(f"{name[::-1]}{n}", first_s=n, subject="alice", subject_id=subject_id) for n in range(2)]
    await behind.sightings.record(arrivals, now_s=NOW_S)
    return subject_id


async def rows_with(db: Database, needle: str) -> dict[str, int]:
    """Return how many rows of each table hold a text, whatever the column."""
    tables = await db.fetch("select tablename from pg_tables where schemaname = 'public' and tablename <> 'schema_migration'")
    found = {}
    for table in (row["tablename"] for row in tables):
        rows = await db.fetch(f"select count(*) as n from {table} t where strpos(t::text, $1) > 0", needle)
        if rows[0]["n"]:
            found[table] = rows[0]["n"]
    return found


async def test_everything_is_covered_and_nothing_of_anyone_is_in_the_receipt(client: TestClient, behind: ApiServices, db: Database) -> None:
    subject_id = await person(client, behind, "Ada")
    receipt = await ok(await client.delete(f"/v1/subjects/{subject_id}"))
    found = {what: count for what, count in receipt["covered"].items() if count}
    assert found == {"sightings": 2, "thumbnails": 2, "episodes": 1, "alerts": 1, "watchlists": 1}
    erased_at = datetime.fromisoformat(receipt["erased_at"])
    assert datetime.fromisoformat(receipt["gone_by"]["spool"]) - erased_at == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=2))
    assert "Ada" not in json.dumps(receipt)
    assert subject_id not in json.dumps(receipt)
    left = await rows_with(db, subject_id)
    assert set(left) <= {"audit", "event", "forgotten_subject", "gallery_change"}  # the random id alone
    assert await rows_with(db, "Ada") == await rows_with(db, "Alice") == {}


async def test_a_receipt_can_be_read_again_and_erasing_again_gives_the_same(client: TestClient, behind: ApiServices) -> None:
    first = await ok(await client.delete(f"/v1/subjects/{await person(client, behind, 'Ada')}"))
    bob = await person(client, behind, "Bob")
    second = await ok(await client.delete(f"/v1/subjects/{bob}"))
    assert await ok(await client.delete(f"/v1/subjects/{bob}")) == second
    assert await ok(await client.get(f"/v1/erasures/{first['receipt_id']}")) == first
    page = await ok(await client.get("/v1/erasures?limit=1"))
    rest = await ok(await client.get("/v1/erasures", params={"limit": 1, "cursor": page["next_cursor"]}))
    assert (page["erasures"], rest["erasures"], rest["next_cursor"]) == ([second], [first], None)
    for unknown in (uuid.uuid4(), "x"):
        assert (await client.get(f"/v1/erasures/{unknown}")).status == 404
    assert (await client.delete(f"/v1/subjects/{uuid.uuid4()}")).status == 404
    assert (await client.get("/v1/erasures?cursor=x")).status == 422


async def test_what_still_arrives_of_an_erased_person_has_no_name(client: TestClient, behind: ApiServices, db: Database) -> None:
    subject_id = await person(client, behind, "Ada")
    await ok(await client.delete(f"/v1/subjects/{subject_id}"))
    await behind.sightings.record([arrival("late", first_s=9, subject="alice", subject_id=subject_id)], now_s=NOW_S)
    assert set(await rows_with(db, subject_id)) <= {"audit", "event", "forgotten_subject", "gallery_change"}


async def test_a_subject_whose_name_is_an_id_is_not_the_subject_of_that_id(client: TestClient, behind: ApiServices) -> None:
    name = str(uuid.uuid4())
    subject_id = (await ok(await client.post("/v1/subjects", json={"name": name}), 201))["subject_id"]
    assert [(await client.request(method, f"/v1/subjects/{name}")).status for method in ("GET", "DELETE")] == [404, 404]
    await ok(await client.get(f"/v1/subjects/{subject_id}"))


async def test_erasures_at_once_give_one_receipt(client: TestClient, behind: ApiServices, db: Database) -> None:
    path = f"/v1/subjects/{await person(client, behind, 'Ada')}"
    first, *others = [await ok(one) for one in await asyncio.gather(*(client.delete(path) for _ in range(4)))]
    assert others == [first] * 3
    assert len(await db.fetch("select from erasure")) == 1


async def test_who_is_merged_into_another_meanwhile_is_not_told_as_erased(client: TestClient, behind: ApiServices, db: Database) -> None:
    ada, eve = await person(client, behind, "Ada"), await person(client, behind, "Eve")

    async def merged_first(_: Database, subject_id: str) -> int:
        await MergeStore(db, hands=Hands(gap=timedelta(seconds=30))).merge(eve, subject_id, actor="somebody")
        return 0

    with pytest.raises(NotFoundError):
        await GalleryStore(db, forget=merged_first).erase(ada)
    assert await db.fetch("select from erasure") == []
    assert len(await db.fetch("select from subject_merge")) == 1


async def test_an_erasure_that_fails_erases_nothing(client: TestClient, behind: ApiServices, db: Database) -> None:
    subject_id = await person(client, behind, "Ada")
    await db.execute("alter table erasure add constraint broken check (sightings < 0)")
    try:
        assert (await client.delete(f"/v1/subjects/{subject_id}")).status >= 400
    finally:
        await db.execute("alter table erasure drop constraint broken")
    assert (await ok(await client.get(f"/v1/sightings?subject={subject_id}")))["sightings"][0]["subject"] == "Ada"
