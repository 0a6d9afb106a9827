"""People who have opted out: nothing of them is stored, and what was told before anybody knew is deleted."""

from datetime import timedelta

import pytest

from core.errors import NotFoundError
from core.ports import Database
from sightings.record import Filter
from sightings.store import SightingStore
from sightings.watchlists import WatchlistStore
from tests.builders.sightings import ALICE, BOB, arrival

EVERYTHING = Filter()


def store_of(db: Database) -> SightingStore:
    return SightingStore(db, episode_gap=timedelta(seconds=30))


async def enrolled(db: Database) -> None:
    for key, name in ((ALICE, "Alice"), (BOB, "Bob")):
        await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', $2)", key, name)


async def opt_out(db: Database, subject_id: str) -> int:
    async with db.transaction() as tx:
        gone = await store_of(tx).opt_out(subject_id, erase_past=True)
        await tx.execute("insert into opt_out (subject_id, set_by) values ($1, 'a')", subject_id)
    return gone


async def test_a_sighting_that_is_taken_back_goes_with_its_picture_and_never_comes_back(db: Database) -> None:
    store = store_of(db)
    await store.record([arrival("door/s1/1#0"), arrival("door/s1/2#0")])
    gone = await store.record([arrival("door/s1/1#0", revision=5, dropped=True, outcome="unclear", reason="opted_out", thumbnail=b"")])
    assert (gone.sightings, gone.dropped) == ([], 1)
    late = await store.record([arrival("door/s1/1#0", revision=9), arrival("door/s1/3#0")])
    assert ([one.track_id for one in late.sightings], late.dropped) == (["door/s1/3#0"], 1)
    assert {one.sighting.track_id for one in (await store.query(EVERYTHING, limit=9))[0]} == {"door/s1/2#0", "door/s1/3#0"}


async def test_a_recognizer_that_does_not_know_yet_stores_nothing_either(db: Database) -> None:
    await enrolled(db)
    store = store_of(db)
    await store.record([arrival("door/s1/1#0")])
    await opt_out(db, ALICE)
    found = await store.record([arrival("door/s1/1#0", subject="alice", revision=2), arrival("door/s1/2#0", subject="bob")])
    assert ([one.subject for one in found.sightings], found.dropped) == (["Bob"], 1)
    assert [one.sighting.subject for one in (await store.query(EVERYTHING, limit=9))[0]] == ["Bob"]


async def test_who_opts_out_is_deleted_from_the_record_with_episodes_and_alerts(db: Database) -> None:
    await enrolled(db)
    store, lists = store_of(db), WatchlistStore(db)
    await lists.add("vip", collection="default")
    await lists.put("vip", ["Alice", "Bob"])
    told = await store.record([arrival("door/s1/1#0", subject="alice"), arrival("door/s1/2#0", subject="bob", first_s=100)])
    assert len(told.alerts) == 2
    assert await opt_out(db, ALICE) == 1
    assert [one.subject for one in (await store.episodes(EVERYTHING, limit=9))[0]] == ["Bob"]
    assert [row["subject"] for row in await db.fetch("select subject from alert")] == ["Bob"]
    with pytest.raises(NotFoundError):
        await store.get(arrival("door/s1/1#0").sighting.sighting_id)
    late = await store.record([arrival("door/s1/1#0", revision=7)])  # the recognizer had begun anew and takes her for a stranger
    assert (late.sightings, late.dropped) == ([], 1)


async def test_an_episode_shrinks_when_a_sighting_of_it_is_dropped(db: Database) -> None:
    await enrolled(db)
    store = store_of(db)
    await store.record([arrival("door/s1/1#0", subject="bob"), arrival("door/s1/2#0", subject="bob", first_s=10)])
    await store.record([arrival("door/s1/2#0", revision=5, first_s=10, dropped=True, thumbnail=b"")])
    assert [one.sightings for one in (await store.episodes(EVERYTHING, limit=9))[0]] == [1]


async def test_notes_of_dropped_sightings_are_kept_for_days_only(db: Database) -> None:
    store = store_of(db)
    await store.record([arrival("door/s1/1#0", dropped=True, thumbnail=b""), arrival("door/s1/2#0", dropped=True, thumbnail=b"")])
    old = arrival("door/s1/1#0").sighting.sighting_id
    await db.execute("update dropped_sighting set dropped_at = now() - interval '3 days' where sighting_id = $1", old)
    await store.delete_stored_before(0.0, limit=10)
    kept = await db.fetch("select sighting_id::text from dropped_sighting")
    assert [row["sighting_id"] for row in kept] == [arrival("door/s1/2#0").sighting.sighting_id]


async def test_a_watchlist_with_a_threshold_of_its_own_raises_no_alert_below_it(db: Database) -> None:
    await enrolled(db)
    store, lists = store_of(db), WatchlistStore(db)
    for name in ("vip", "staff"):
        await lists.add(name, collection="default")
        await lists.put(name, ["Alice"])
    (vip,) = await db.fetch("select watchlist_id::text as key from watchlist where name = 'vip'")
    weak = await store.record([arrival("door/s1/1#0", subject="alice", weak_for=(vip["key"],))])
    assert [alert.watchlist for alert in weak.alerts] == ["staff"]
    better = await store.record([arrival("door/s1/1#0", subject="alice", revision=2, score=0.9)])
    assert [alert.watchlist for alert in better.alerts] == ["vip"]
