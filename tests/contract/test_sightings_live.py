"""Sightings stored by one process, shown by another: over real PostgreSQL notifications."""

import asyncio
from datetime import timedelta

from core.ports import Database
from sightings.live import follow_live
from sightings.record import Arrival, StoredSighting
from sightings.store import SightingStore
from tests.builders.sightings import NOW_S, sighting


async def _stored(store: SightingStore, count: int) -> list[StoredSighting]:
    arrivals = [Arrival(sighting=sighting(track=f"gate/s/{n}#0"), thumbnail=None) for n in range(count)]
    return await store.upsert(arrivals, now_s=NOW_S)


async def test_what_one_process_stored_another_shows(db: Database) -> None:
    store = SightingStore(db, episode_gap=timedelta(seconds=30))
    shown: asyncio.Queue[StoredSighting] = asyncio.Queue()
    follower = asyncio.create_task(follow_live(db, store, shown.put_nowait))
    async with asyncio.timeout(20):
        first = await _heard(db, store, shown)
        stored = await _stored(store, 450)  # more than one note holds
        got = [(await shown.get()).sighting.sighting_id for _ in stored]
    follower.cancel()
    assert sorted(got) == sorted(one.sighting.sighting_id for one in stored)
    assert first not in got


async def _heard(db: Database, store: SightingStore, shown: asyncio.Queue[StoredSighting]) -> str:
    """Store one sighting and tell of it until the follower, which comes late and hears nothing of before, has shown it."""
    (one,) = await store.upsert([Arrival(sighting=sighting(track="gate/first#0"), thumbnail=None)], now_s=NOW_S)
    while shown.empty():
        await db.fetch("select pg_notify('sighting', $1)", one.sighting.sighting_id)
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    while not shown.empty():
        shown.get_nowait()
    return one.sighting.sighting_id


async def test_an_erased_sighting_is_passed_over(db: Database) -> None:
    store = SightingStore(db, episode_gap=timedelta(seconds=30))
    shown: list[StoredSighting] = []
    (gone, kept) = await _stored(store, 2)
    await db.execute("delete from sighting where sighting_id = $1", gone.sighting.sighting_id)
    follower = asyncio.create_task(follow_live(db, store, shown.append))
    async with asyncio.timeout(10):
        while not shown:
            await db.fetch("select pg_notify('sighting', $1)", f"{gone.sighting.sighting_id} {kept.sighting.sighting_id}")
            await asyncio.sleep(0.05)
    follower.cancel()
    assert {one.sighting.sighting_id for one in shown} == {kept.sighting.sighting_id}
