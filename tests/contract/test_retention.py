"""Each class of data goes when its time is over, what is held stays, and the policy can be read."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from api.app import build_app
from core.audit.store import AuditFilter, AuditStore
from core.metrics import Metrics
from core.ports import Database
from core.settings import AuditSettings, RetentionSettings, Settings, SightingSettings
from sightings.retention import Retention, data_classes, kept_now
from sightings.store import SightingStore
from tests.builders.access import make_key
from tests.builders.api import ADMIN, services
from tests.builders.audit import draft, tamper
from tests.builders.sightings import arrival

ClientMaker = Callable[..., Awaitable[TestClient]]
SETTINGS = Settings(
    sightings=SightingSettings(retention_days=30),
    retention=RetentionSettings(strangers_days=7, thumbnails_days=3, embeddings_days=5, alerts_days=60),
    audit=AuditSettings(retention_days=90),
)


@pytest.fixture
async def store(db: Database) -> SightingStore:
    return SightingStore(db, episode_gap=timedelta(seconds=30))


async def put(store: SightingStore, name: str, days: float, **changes: Any) -> None:
    await store.upsert([arrival(name, **changes)], now_s=await store.now_s() - 86400 * days)


async def clean(db: Database, settings: Settings = SETTINGS) -> tuple[int, bytes]:
    metrics = Metrics()
    return await Retention(db=db, classes=data_classes(settings), metrics=metrics).clean_up(), metrics.render()


async def column(db: Database, sql: str) -> list[str]:
    return [row["x"] for row in await db.fetch(sql)]


async def test_sightings_pictures_and_embeddings_go_one_after_the_other(db: Database, store: SightingStore) -> None:
    for days in (2, 4, 6, 8, 29, 31):
        await put(store, f"s{days}", days, subject="alice", first_s=days * 100)
        await put(store, f"t{days}", days, first_s=days * 100)
    removed, metrics = await clean(db)
    assert await column(db, "select track_id x from sighting order by stored_at, track_id") == [
        "s29",
        "s8",
        "s6",
        "t6",
        "s4",
        "t4",
        "s2",
        "t2",
    ]
    assert await column(db, "select track_id x from sighting where thumbnail is not null order by 1") == ["s2", "t2"]
    assert await column(db, "select track_id x from sighting where embedding is not null order by 1") == ["s2", "s4", "t2", "t4"]
    assert removed == 4 + 6 + 4
    for line in (
        b'sightline_sightings_retention_removed_total{data="sightings of strangers"} 3.0',
        b'sightline_sightings_retention_removed_total{data="sightings of subjects"} 1.0',
        b'sightline_sightings_retention_removed_total{data="thumbnails"} 6.0',
        b'sightline_sightings_retention_removed_total{data="embeddings of sightings"} 4.0',
        b"sightline_sightings_expired_total 4.0",
    ):
        assert line in metrics
    assert (await clean(db))[0] == 0


async def test_what_a_case_holds_stays_with_its_picture(db: Database, store: SightingStore) -> None:
    await put(store, "held", 40)
    await put(store, "free", 40)
    case_id = uuid.uuid4()
    await db.execute(
        "insert into case_file (case_id, collection, title, legal_hold, created_by) values ($1, 'default', 'x', true, 'test')", case_id
    )
    await db.execute(
        "insert into case_sighting (case_id, sighting_id, camera, first_at, added_by) "
        "select $1, sighting_id, camera, first_at, 'test' from sighting where track_id = 'held'",
        case_id,
    )
    await clean(db)
    assert await column(db, "select track_id || (thumbnail is not null)::text x from sighting") == ["heldtrue"]


async def test_the_rest_goes_by_its_own_age(db: Database) -> None:
    await db.execute(
        "insert into idempotent_request (actor, key, fingerprint, began_at) "
        "values ('a', 'old', '', now() - interval '25 h'), ('a', 'new', '', now() - interval '23 h')"
    )
    await db.execute(
        "insert into alert (alert_id, watchlist_id, watchlist, camera, first_at, last_at, raised_at) "
        "select gen_random_uuid(), gen_random_uuid(), n::text, 'door', now(), now() - n * interval '1 day', now() - n * interval '1 day' "
        "from unnest(array[59, 61]) n"
    )
    await db.execute(
        "insert into event (at, kind, key, revision) values (now() - interval '8 days', 'camera', 'x', 1), (now(), 'camera', 'y', 1)"
    )
    key_id = (await make_key(db)).key.key_id
    days = "insert into api_key_day (key_id, day, requests) select $1, current_date - n, n from generate_series(0, 3) n"
    await db.execute(days, uuid.UUID(key_id))
    await db.execute("insert into subject (collection, name) values ('default', 'ann')")
    await db.execute(
        "insert into set_aside (collection, subject_id, source, content_sha256, picture, width_px, height_px, faces, reason, detail, "
        "candidates, created_at) select 'default', subject_id, n::text, n::text::bytea, '', 1, 1, '[]', 'blurred', '', '[]', "
        "now() - n * interval '1 day' from subject, unnest(array[29, 31]) n"
    )
    audit = AuditStore(db)
    await audit.append([draft(number) for number in range(3)])
    await tamper(db, "update audit set at = at - interval '91 days' where seq < 3")
    await clean(db)
    assert await column(db, "select key x from idempotent_request") == ["new"]
    assert await column(db, "select watchlist x from alert") == ["59"]
    assert await column(db, "select requests::text x from api_key_day order by day desc") == ["0", "1"]
    assert await column(db, "select key x from event") == ["y"]
    assert await column(db, "select source x from set_aside") == ["29"]
    assert (await audit.query(AuditFilter(), limit=9))[0][-1].seq == 3


async def test_the_policy_and_the_oldest_rows_can_be_read(db: Database, store: SightingStore, aiohttp_client: ClientMaker) -> None:
    await put(store, "t", 9)
    client = await aiohttp_client(build_app(replace(services(db), settings=SETTINGS)), headers=ADMIN)
    body = await (await client.get("/v1/privacy/retention", headers=ADMIN)).json()
    found = {one["name"]: (one["keep_days"], one["oldest_at"] is not None, one["overdue"]) for one in body["classes"]}
    assert found["sightings of strangers"] == (7.0, True, True)
    assert found["sightings of subjects"] == (30.0, False, False)
    assert found["audit"][0] == 90.0
    now = {one.of.name: one for one in await kept_now(db, data_classes(SETTINGS))}
    assert now["thumbnails"].age == pytest.approx(timedelta(days=9), abs=timedelta(minutes=1))
