"""The log of events: its order, what is told, how long it is kept, and who reads it on."""

import asyncio
from datetime import timedelta

import pytest

from core.errors import UsageError
from core.events import EventReader, event_bounds, expire_events, read_events, tell
from core.ports import Database
from tests.builders.api import services
from tests.builders.live import WAIT_S, told
from tests.builders.sightings import NOW_S, arrival


async def test_ids_follow_the_order_of_commits(db: Database) -> None:
    """A reader that has seen an id has seen every lower one, though transactions told in another order than they committed."""
    async with db.transaction() as slow:
        await tell(slow, "gallery", [("slow", 1)])
        await told(db, 2)
        assert [(event.event_id, event.key) for event in await read_events(db, 0)] == [(1, "g1"), (2, "g2")]
    assert [(event.event_id, event.key) for event in await read_events(db, 2)] == [(3, "slow")]
    assert await db.fetch("select from event_intent") == []


async def test_what_was_rolled_back_is_never_told(db: Database) -> None:

    async def tell_then_fail() -> None:
        async with db.transaction() as tx:
            await tell(tx, "gallery", [("gone", 1)])
            raise UsageError("no")

    with pytest.raises(UsageError):
        await tell_then_fail()
    await told(db, 1)
    assert [event.key for event in await read_events(db, 0)] == ["g1"]


async def test_who_tells_early_keeps_nobody_waiting(db: Database) -> None:
    """An erasure tells of sightings, then locks the gallery; an enrolment locks the gallery, then tells: neither waits for ever."""
    async with db.transaction() as erasure:
        await tell(erasure, "sighting", [("a", 1)])
        async with db.transaction() as enrolment:
            await enrolment.fetch("select from gallery_generation for update")
            await asyncio.wait_for(tell(enrolment, "gallery", [("b", 1)]), WAIT_S)
        await erasure.fetch("select from gallery_generation for update")
    assert [event.key for event in await read_events(db, 0)] == ["b", "a"]


async def test_what_is_too_old_goes_and_the_floor_says_so(db: Database) -> None:
    await told(db, 3)
    await db.execute("update event set at = now() - interval '8 days' where event_id <= 2")
    assert await expire_events(db, timedelta(days=7)) == 2
    assert await event_bounds(db) == (2, 3)
    await db.execute("update event set at = now() - interval '8 days'")
    assert await expire_events(db, timedelta(days=7)) == 1
    assert await event_bounds(db) == (3, 3)
    assert await expire_events(db, timedelta(days=7)) == 0


async def test_one_reader_at_a_time_and_the_next_goes_on_where_it_was(db: Database) -> None:
    await told(db, 5)
    one, two = (EventReader(db, "mqtt", lease=timedelta(seconds=60)) for _ in range(2))
    assert (await one.take(), await two.take()) == (5, None)
    await told(db, 5)
    assert await one.done(7) is True
    assert await two.done(9) is False
    await one.leave()
    assert (await two.take(), await one.take()) == (7, None)
    assert await one.done(10) is False


async def test_sightings_tell_what_is_news(db: Database) -> None:
    store = services(db).sightings
    await store.upsert([arrival("a", revision=1), arrival("b", camera="hall", subject="bob")], now_s=NOW_S)
    await store.upsert([arrival("a", revision=2)], now_s=NOW_S)
    await store.upsert([arrival("a", revision=3, subject="alice")], now_s=NOW_S)
    await store.upsert([arrival("a", revision=3, subject="alice")], now_s=NOW_S)
    await store.upsert([arrival("a", revision=4, subject="alice", closed=True)], now_s=NOW_S)
    rows = [(event.camera, event.revision, event.news, event.collection) for event in await read_events(db, 0)]
    assert rows == [
        ("door", 1, True, "default"),
        ("hall", 1, True, "default"),
        ("door", 2, False, "default"),
        ("door", 3, True, "default"),
        ("door", 4, True, "default"),
    ]
