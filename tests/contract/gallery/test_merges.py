"""Two subjects become one, and two again."""

from aiohttp.test_utils import TestClient

from api.services import ApiServices
from core.ports import Database
from enrollment.merging import PARTS
from enrollment.service import Enroller
from tests.builders.http import ok, refused
from tests.builders.people import ANN, BOB, found, of, person
from tests.builders.sightings import arrival


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
