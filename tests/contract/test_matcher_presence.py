"""Replicas tell a real PostgreSQL that they live; who enrols waits for them."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import pytest

from core.errors import UnavailableError
from core.ports import Database
from core.topology import ShardId
from matcher.local import LocalShard, open_local_shard
from matcher.numpy_index import NumpyIndex
from matcher.presence import LIVE_S, Presence, Replicas, open_replicas
from matcher.shard import Shard
from matcher.snapshot import follow_gallery
from tests.builders.fleet import enrol, person
from tests.builders.matcher import unit_rows

VECTORS = unit_rows(4, 8)


@pytest.fixture
async def shard() -> AsyncIterator[LocalShard]:
    async with open_local_shard(Shard(new_index=NumpyIndex)) as local:
        yield local


def presence(db: Database, shard: LocalShard, number: int = 0, total: int = 1, **changes: object) -> Presence:
    return Presence(db, shard, ShardId(shards_total=total, shard=number), **changes)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def following(db: Database, shard: LocalShard) -> AsyncIterator[None]:
    task = asyncio.ensure_future(follow_gallery(db, shard))
    try:
        await shard.wait_generation(0, 10)
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def age(db: Database, name: str, seconds: float) -> None:
    """Let a replica's last word be so many seconds ago, of a server that is up since longer."""
    young = "select now() - pg_postmaster_start_time() < make_interval(secs => $1) as young"
    while (await db.fetch(young, seconds + 0.1))[0]["young"]:  # noqa: ASYNC110 - a clock has no event
        await asyncio.sleep(0.2)
    await db.execute("update matcher_replica set seen_at = now() - make_interval(secs => $2) where name = $1", name, seconds)


async def names(db: Database) -> list[str]:
    return [replica.name for replica in await Replicas(db).live()]


async def test_without_a_matcher_waiting_ends_at_once(db: Database) -> None:
    with pytest.raises(UnavailableError, match="no matcher is running: start `sightline match` for every shard"):
        await Replicas(db).await_visible(0, 30.0)


async def test_a_replica_is_there_from_its_first_word_to_its_last(db: Database, shard: LocalShard) -> None:
    own = presence(db, shard, name="a")
    await own.begin()
    (seen,) = await Replicas(db).live()
    assert (seen.name, seen.shard.label, seen.generation, seen.ready) == ("a", "0/1", -1, False)
    async with following(db, shard):
        await own.become_ready()
        (seen,) = await Replicas(db).live()
        assert (seen.generation, seen.ready) == (0, True)
        await Replicas(db).await_visible(0, 1.0)
    await own.leave()
    assert await names(db) == []


async def test_it_is_ready_only_with_everything_that_was_committed(db: Database, shard: LocalShard) -> None:
    await shard.replace(shard.empty_gallery(), 0)
    own = presence(db, shard, name="a")
    await own.begin()
    await enrol(db, [person(0, VECTORS[0])])
    ready = asyncio.ensure_future(own.become_ready())
    await asyncio.sleep(0.2)
    assert not ready.done()
    async with following(db, shard):
        await ready
    assert shard.generation == 1


async def test_a_lagging_replica_is_named_and_then_waited_for(db: Database, shard: LocalShard) -> None:
    own = presence(db, shard, name="slow")
    async with following(db, shard):
        await own.become_ready()
    await enrol(db, [person(0, VECTORS[0])])
    async with open_replicas(db) as replicas:
        with pytest.raises(UnavailableError, match=r"generation 1 is not searched everywhere after 0.3 s: slow \(shard 0/1\) is at 0"):
            await replicas.await_visible(1, 0.3)
        waiting = asyncio.ensure_future(replicas.await_visible(1, 10.0))
        telling = asyncio.ensure_future(own.run())
        async with following(db, shard):
            await waiting
        telling.cancel()


async def test_the_dead_are_not_waited_for(db: Database, shard: LocalShard) -> None:
    async with following(db, shard):
        for name in ("alive", "dead"):
            await presence(db, shard, name=name).become_ready()
        await age(db, "dead", LIVE_S + 0.5)
        assert await names(db) == ["alive"]
        await db.execute("update matcher_replica set generation = -1 where name = 'dead'")
        await Replicas(db).await_visible(0, 1.0)


async def test_a_restarted_replica_takes_its_names_place(db: Database, shard: LocalShard) -> None:
    await presence(db, shard, name="a").begin()
    await presence(db, shard, 1, 2, name="a").begin()
    await db.execute("update matcher_replica set generation = 77")
    await presence(db, shard, name="a").begin()
    assert [(one.shard.label, one.generation) for one in await Replicas(db).live()] == [("0/1", -1), ("1/2", 77)]


async def test_rows_of_the_killed_go_after_an_hour(db: Database, shard: LocalShard) -> None:
    await presence(db, shard, name=uuid.uuid4().hex).begin()
    await db.execute("update matcher_replica set seen_at = now() - interval '61 minutes'")
    await presence(db, shard, name="a").begin()
    assert (await db.fetch("select count(*) from matcher_replica"))[0]["count"] == 1


async def test_a_replica_that_slept_catches_up_before_it_answers(db: Database, shard: LocalShard) -> None:
    clock = [100.0]
    own = presence(db, shard, name="a", now_s=lambda: clock[0])
    async with following(db, shard):
        await own.become_ready()
        await own.be_sure()
    await enrol(db, [person(0, VECTORS[0])])
    await own.be_sure()  # it has just told: whoever enrols waits for it
    assert shard.generation == 0
    clock[0] += LIVE_S
    async with following(db, shard):
        await own.be_sure()
        assert shard.generation == 1
