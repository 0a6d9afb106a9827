"""Sightings stored by one process, shown by another: over real PostgreSQL notifications."""

import asyncio
from datetime import timedelta

from core.ports import Database
from sightings.live import LiveNotifier, follow_live
from sightings.record import Arrival, StoredSighting
from sightings.store import SightingStore
from tests.builders.sightings import NOW_S, sighting


async def _stored(store: SightingStore, count: int) -> list[StoredSighting]:
    arrivals = [Arrival(sighting=sighting(track=f"gate/s/{n}#0"), thumbnail=None) for n in range(count)]
    return await store.upsert(arrivals, now_s=NOW_S)


async def test_what_one_process_stored_another_shows(db: Database) -> None:
    store = SightingStore(db, episode_gap=timedelta(seconds=30))
    shown: asyncio.Queue[StoredSighting] = asyncio.Queue()
    notifier = LiveNotifier(db)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow_live(db, store, shown.put_nowait)), group.create_task(notifier.run())]
        stored = await _stored(store, 450)
        got: set[str] = set()
        async with asyncio.timeout(20):
            while len(got) < 450:
                for one in stored:  # a listener that comes late hears nothing of before: tell until it has all
                    notifier.publish(one)
                while len(got) < 450:
                    try:
                        async with asyncio.timeout(2.0):
                            got.add((await shown.get()).sighting.sighting_id)
                    except TimeoutError:
                        break
        for task in tasks:
            task.cancel()
    assert got == {one.sighting.sighting_id for one in stored}


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
