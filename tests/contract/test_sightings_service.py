"""From the log to the database and on to who is watching."""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import numpy as np
import pytest

from core.adapters.memory_log import MemoryLog
from core.carried import encode_sighting
from core.errors import UnavailableError, UsageError
from core.metrics import Metrics
from core.ports import Database
from core.schema import DeadLetter, Sighting, decode, encode
from core.settings import Settings, SightingSettings
from core.vault import Vault
from sightings.record import Arrival, Filter, Recorded
from sightings.retention import Retention, data_classes
from sightings.service import TOPIC, SightingsService
from sightings.store import SightingStore
from sightings.watchlists import WatchlistStore
from tests.builders.sightings import ALICE, JPEG, NOW_S, sighting

GAP = timedelta(seconds=30)


class FailingStore(SightingStore):
    """Raises the given errors first, one a call."""

    def __init__(self, db: Database, errors: Sequence[Exception]) -> None:
        super().__init__(db, episode_gap=GAP)
        self.errors = list(errors)
        self.calls = 0

    async def record(self, arrivals: Sequence[Arrival], *, now_s: float | None = None) -> Recorded:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return await super().record(arrivals, now_s=now_s)


class Bench:
    """A service over a real log and database, with what it told."""

    def __init__(self, store: SightingStore, db: Database) -> None:
        self.log = MemoryLog()
        self.store, self.db = store, db
        self.metrics = Metrics()
        self.service = SightingsService(log=self.log, store=store, metrics=self.metrics, clock=lambda: NOW_S)

    async def told(self) -> list[str]:
        """Return the tracks of which the log of events tells, an entry for each event."""
        rows = await self.db.fetch("select track_id from event join sighting on sighting_id::text = key order by event_id")
        return [row["track_id"] for row in rows]

    async def send(self, one: Sighting, thumbnail: bytes = JPEG) -> None:
        await self.log.publish(TOPIC, one.camera, encode(one, thumbnail))

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.service.run())
        await asyncio.sleep(0)
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def drained(self) -> None:
        async with asyncio.timeout(10):
            while self.log.depth(TOPIC):  # noqa: ASYNC110 (the log tells nobody that it is empty)
                await asyncio.sleep(0.01)

    async def stored(self) -> list[str]:
        return sorted(one.sighting.track_id for one in (await self.store.query(Filter(), limit=500))[0])


@pytest.fixture
def bench(db: Database) -> Bench:
    return Bench(SightingStore(db, episode_gap=GAP), db)


async def test_sightings_are_stored_counted_and_told(bench: Bench) -> None:
    async with bench.running():
        await bench.send(sighting("a", subject="alice"))
        await bench.send(sighting("b", camera="hall"))
        await bench.drained()
    assert await bench.stored() == sorted(await bench.told()) == ["a", "b"]
    assert b'sightline_sightings_stored_total{camera="door",outcome="subject"} 1.0' in bench.metrics.render()


async def test_a_redelivery_is_told_once(bench: Bench) -> None:
    async with bench.running():
        await bench.send(sighting("a"))
        await bench.drained()
        await bench.send(sighting("a"))
        await bench.drained()
    assert await bench.told() == ["a"]


async def test_what_a_recognizer_sealed_is_opened_and_what_no_key_opens_is_put_aside(bench: Bench) -> None:
    bench.service = SightingsService(log=bench.log, store=bench.store, metrics=bench.metrics, vault=bench.db.vault, clock=lambda: NOW_S)
    ours, foreign = sighting("a"), sighting("b")
    async with bench.log.consumer([f"dead.{TOPIC}"], "test") as dead, bench.running():
        await bench.log.publish(TOPIC, foreign.camera, encode_sighting(Vault([b"x" * 32]), foreign, JPEG))
        await bench.log.publish(TOPIC, ours.camera, encode_sighting(bench.db.vault, ours, JPEG))
        await bench.drained()
        ((letter, _),) = [decode(DeadLetter, record.value) for record in await dead.poll(9, 5)]
    assert letter.reason == f"sighting {foreign.sighting_id} 1: is sealed with a key that is not here; add it to old_secret_keys"
    assert await bench.stored() == ["a"]
    (face,) = await bench.store.faces([ours.sighting_id])
    np.testing.assert_allclose(face.embedding, np.full(4, 0.5), atol=1e-3)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "Sighting: 0 bytes, shorter than the length field"),
        (b"\xff\xff\xff\xff....", "Sighting: header length 4294967295 in a record of 8 bytes"),
        (encode(DeadLetter(topic="t", partition=0, offset=0, key="k", reason="r")), "Sighting: Object missing required field"),
        (encode(sighting("a", sighting_id="7")), "Sighting.sighting_id: not a UUID"),
        (encode(sighting("a", camera="a\x00")), "Sighting.camera: holds a NUL character"),
        (encode(sighting("a", region="r" * 1001)), "Sighting.region: 1001 characters, more than 1000"),
        (encode(sighting("a", first_s=9, last_s=1)), "Sighting.last_s: before first_s"),
        (encode(sighting("a", best_s=float("nan"))), "Sighting.best_s: nan is not a Unix time"),
        (encode(sighting("a", best_s=1e300)), "Sighting.best_s: 1e+300 is not a Unix time"),
        (encode(sighting("a", score=float("inf"))), "Sighting.score: inf is out of range"),
        (encode(sighting("a", revision=1 << 60)), "Sighting.revision: 1152921504606846976 is not within 0..9007199254740991"),
        (encode(sighting("a", best_box=(0.0, 0.0, float("nan"), 1.0))), "Sighting.best_box: not finite"),
        (encode(sighting("a", outcome="subject")), "Sighting.outcome: subject without subject_id or name"),
        (encode(sighting("a"), b"<svg onload=alert(1)>"), "Sighting thumbnail: 21 bytes that are not a JPEG"),
    ],
)
async def test_what_cannot_be_read_is_put_aside_with_its_reason_and_holds_nobody_up(bench: Bench, value: bytes, reason: str) -> None:
    async with bench.log.consumer([f"dead.{TOPIC}"], "test") as dead, bench.running():
        await bench.log.publish(TOPIC, "door", value)
        await bench.send(sighting("good"))
        await bench.drained()
        ((letter, original),) = [decode(DeadLetter, record.value) for record in await dead.poll(9, 5)]
    assert letter.reason.startswith(reason)
    assert original == value
    assert await bench.stored() == ["good"]
    assert b"sightline_sightings_dead_lettered_total 1.0" in bench.metrics.render()


async def test_the_database_away_means_waiting_not_losing(db: Database) -> None:
    bench = Bench(FailingStore(db, [UnavailableError("database: no answer")]), db)
    async with bench.running():
        await bench.send(sighting("a"))
        await bench.drained()
    assert await bench.stored() == await bench.told() == ["a"]


async def test_a_record_that_the_database_refuses_is_found_and_put_aside_alone(db: Database) -> None:
    store = FailingStore(db, [UsageError("batch"), UsageError("database: a value can't be stored")])
    bench = Bench(store, db)
    await bench.log.publish("dead." + TOPIC, "x", b"")
    for number in range(3):
        await bench.send(sighting(f"t{number}"))
    async with bench.running():
        await bench.drained()
    assert await bench.stored() == ["t1", "t2"]
    assert b"sightline_sightings_dead_lettered_total 1.0" in bench.metrics.render()


async def test_a_stop_between_database_and_log_commit_repeats_nothing(bench: Bench) -> None:
    one = sighting("a", subject="alice")
    await bench.store.upsert([Arrival(sighting=one, thumbnail=JPEG)], now_s=NOW_S)  # committed; the process died before the log's commit
    async with bench.running():
        await bench.send(one)
        await bench.drained()
    assert await bench.told() == ["a"]
    assert len((await bench.store.episodes(Filter(), limit=9))[0]) == 1


async def test_retention_cleans_up_all_that_is_too_old_and_says_so(bench: Bench) -> None:
    old = [Arrival(sighting=sighting(f"t{n}", first_s=n), thumbnail=JPEG) for n in range(3)]
    await bench.store.upsert(old, now_s=await bench.store.now_s() - 86400 * 8)
    await bench.store.upsert([Arrival(sighting=sighting("new"), thumbnail=JPEG)])
    retention = Retention(db=bench.db, classes=data_classes(Settings(sightings=SightingSettings(retention_days=7))), metrics=bench.metrics)
    assert await retention.clean_up() == 3
    assert await bench.stored() == ["new"]
    assert b"sightline_sightings_expired_total 3.0" in bench.metrics.render()


async def test_an_alert_is_counted_and_told_once(db: Database) -> None:
    bench = Bench(SightingStore(db, episode_gap=GAP), db)
    told: list[str] = []
    bench.service = SightingsService(
        log=bench.log,
        store=bench.store,
        metrics=bench.metrics,
        publish_alert=lambda alert: told.append(f"{alert.watchlist} {alert.camera} {alert.subject}"),
        clock=lambda: NOW_S + 0.5,
    )
    await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', 'Alice')", uuid.UUID(ALICE))
    lists = WatchlistStore(db)
    await lists.add("wanted", collection="default")
    await lists.put("wanted", [ALICE])
    async with bench.running():
        for revision in (1, 2, 1, 3):
            await bench.send(sighting("a", subject="alice", revision=revision))
            await bench.drained()
    assert told == ["wanted door Alice"]
    text = bench.metrics.render()
    assert b'sightline_sightings_alerts_total{camera="door",watchlist="wanted"} 1.0' in text
    assert b'sightline_sightings_latency_seconds_count{region="default"} 1.0' in text
    assert b'sightline_sightings_latency_seconds_sum{region="default"} 0.5' in text


async def test_what_a_killed_recognizer_left_open_is_closed_and_told(bench: Bench) -> None:
    await bench.store.upsert([Arrival(sighting=sighting(f"t{n}"), thumbnail=JPEG) for n in range(3)], now_s=NOW_S)
    await bench.db.execute("update sighting set revised_at = now() - interval '2 min' where track_id <> 't1'")
    assert await bench.service.close_silent() == 2
    assert sorted(await bench.told()) == ["t0", "t0", "t1", "t2", "t2"]
    assert b"sightline_sightings_closed_silent_total 2.0" in bench.metrics.render()
