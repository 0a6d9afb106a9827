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


async def test_what_one_process_stored_another_shows_once_and_in_batches(db: Database) -> None:
    store = SightingStore(db, episode_gap=timedelta(seconds=30))
    shown: asyncio.Queue[StoredSighting] = asyncio.Queue()
    follower = asyncio.create_task(follow_live(db, store, shown.put_nowait))
    async with asyncio.timeout(20):
        first = await _heard(store, shown)
        stored = await _stored(store, 700)  # more than a page holds
        got = [(await shown.get()).sighting.sighting_id for _ in stored]
    follower.cancel()
    assert sorted(got) == sorted(one.sighting.sighting_id for one in stored)
    assert first not in got


async def _heard(store: SightingStore, shown: asyncio.Queue[StoredSighting]) -> str:
    """Store revisions of one sighting until the follower, which hears nothing of before it came, has shown one; return its id."""
    for revision in range(1, 1000):
        (one,) = await store.upsert([Arrival(sighting=sighting(track="gate/first#0", revision=revision), thumbnail=None)], now_s=NOW_S)
        try:
            async with asyncio.timeout(0.1):
                while (await shown.get()).sighting.revision < revision:
                    continue
            return one.sighting.sighting_id
        except TimeoutError:
            continue
    raise AssertionError("the follower shows nothing")


async def test_an_erased_sighting_is_passed_over(db: Database) -> None:
    store = SightingStore(db, episode_gap=timedelta(seconds=30))
    shown: asyncio.Queue[StoredSighting] = asyncio.Queue()
    follower = asyncio.create_task(follow_live(db, store, shown.put_nowait))
    async with asyncio.timeout(10):
        await _heard(store, shown)
        async with db.transaction() as tx:
            gone, kept = await _stored(SightingStore(tx, episode_gap=timedelta(seconds=30)), 2)
            await tx.execute("delete from sighting where sighting_id = $1", gone.sighting.sighting_id)
        assert (await shown.get()).sighting.sighting_id == kept.sighting.sighting_id
    follower.cancel()
    assert shown.empty()
