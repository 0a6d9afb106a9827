"""What is published over MQTT, to a real broker."""

import asyncio
import dataclasses
import json
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from core.events import Told, tell_each
from core.metrics import Metrics
from core.ports import Database
from core.settings import FrigateSettings, MqttSettings
from sightings.forgetting import forget_subject
from sightings.notify.frigate import open_frigate, person_of
from sightings.notify.mqtt import MqttNotifier
from sightings.notify.topics import camera_discovery, confidence, topic_level
from sightings.store import SightingStore
from sightings.watchlists import WatchlistStore
from tests.builders.mqtt import WAIT_S, broker, ear, free_port, retained
from tests.builders.proxy import TcpProxy
from tests.builders.sightings import ALICE, NOW_S, arrival


@pytest.fixture
def store(db: Database) -> SightingStore:
    from datetime import timedelta

    return SightingStore(db, episode_gap=timedelta(seconds=30))


class Names(list[str]):
    """The cameras there are."""

    async def __call__(self) -> Sequence[str]:
        return list(self)


@asynccontextmanager
async def notifying(db: Database, store: SightingStore, settings: MqttSettings, cameras: Names, **more: Any) -> AsyncIterator[MqttNotifier]:
    notifier = MqttNotifier(db=db, sightings=store, settings=settings, cameras=cameras, metrics=Metrics(), **more)
    task = asyncio.create_task(notifier.run())
    try:
        async with asyncio.timeout(WAIT_S):
            while not await db.fetch("select from event_reader where name = 'mqtt'"):  # noqa: ASYNC110 - it lies in the database
                await asyncio.sleep(0.01)
        yield notifier
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_sightings_people_occupancy_and_availability(db: Database, store: SightingStore) -> None:
    async with broker(free_port()) as settings, ear(settings) as heard:
        async with notifying(db, store, settings, Names(["door"])):
            await heard.wait("sightline/status", b"online")
            await heard.wait("sightline/door/known", b"OFF")
            await store.upsert([arrival("a", subject="alice")], now_s=NOW_S)
            body = await heard.wait_json("sightline/door/sighting")
            assert (body["subject"], body["camera"], body["outcome"], body["closed"]) == ("Alice", "door", "subject", False)
            assert await heard.wait("sightline/door/person") == b"Alice"
            await heard.wait("sightline/door/known", b"ON")
            assert "embedding" not in body
            await store.upsert([arrival("a", subject="alice", revision=2, closed=True), arrival("b", first_s=1)], now_s=NOW_S)
            await heard.wait("sightline/door/known", b"OFF", count=2)
            await heard.wait("sightline/door/unknown", b"ON")
            assert ("sightline/door/person", b"Alice") in await retained(settings, "sightline/")
        await heard.wait("sightline/status", b"offline")


async def test_a_publisher_that_stops_is_offline_and_the_next_goes_on_where_it_was(db: Database, store: SightingStore) -> None:
    async with broker(free_port()) as settings, ear(settings) as heard:

        def seen() -> set[str]:
            return {json.loads(payload)["sighting_id"] for payload in heard.all("sightline/door/sighting")}

        async with notifying(db, store, settings, Names(["door"])):
            await heard.wait("sightline/status", b"online")
            await store.upsert([arrival("a")], now_s=NOW_S)
            await heard.wait("sightline/door/sighting")
        await heard.wait("sightline/status", b"offline")
        await store.upsert([arrival("b"), arrival("c", camera="hall")], now_s=NOW_S)  # nobody publishes
        async with notifying(db, store, settings, Names(["door", "hall"])):
            await heard.wait("sightline/hall/sighting")
            await heard.wait_for(lambda: seen() == {arrival(track).sighting.sighting_id for track in "ab"})


async def test_a_publisher_that_is_cut_off_is_offline_by_its_last_will_and_comes_back(db: Database, store: SightingStore) -> None:
    async with broker(free_port()) as settings, ear(settings) as heard:
        port = int((settings.url or "").rpartition(":")[2])
        with TcpProxy("127.0.0.1", port) as proxy:
            through = settings.model_copy(update={"url": f"mqtt://127.0.0.1:{proxy.port}"})
            async with notifying(db, store, through, Names(["door"])):
                await heard.wait("sightline/status", b"online")
                await asyncio.to_thread(proxy.cut)
                await heard.wait("sightline/status", b"offline")
                await store.upsert([arrival("a")], now_s=NOW_S)
                await heard.wait("sightline/status", b"online", count=2)
                await heard.wait("sightline/door/sighting")


async def test_what_happens_while_the_broker_is_away_is_published_when_it_is_back(db: Database, store: SightingStore) -> None:
    port = free_port()
    async with notifying(db, store, MqttSettings(url=f"mqtt://127.0.0.1:{port}"), Names(["door"])):
        await store.upsert([arrival("a")], now_s=NOW_S)
        for number in range(2):  # not there yet; gone, and there again
            async with broker(port) as settings, ear(settings) as heard:
                await heard.wait_json("sightline/door/sighting")
            await store.upsert([arrival("b", revision=number + 1)], now_s=NOW_S)


async def test_nothing_of_an_erased_person_stays_on_the_broker(db: Database, store: SightingStore) -> None:
    async with broker(free_port()) as settings, ear(settings) as heard:
        async with notifying(db, store, settings, Names(["door", "hall"])):
            await store.upsert([arrival("a", subject="alice"), arrival("b", camera="hall", subject="bob")], now_s=NOW_S)
            await heard.wait("sightline/door/person", b"Alice")
            await heard.wait("sightline/hall/person", b"Bob")
            await forget_subject(db, ALICE)
            await heard.wait("sightline/door/person", b"")
            kept = dict(await retained(settings))
        assert "sightline/door/person" not in kept
        assert kept["sightline/hall/person"] == b"Bob"
        assert not any(b"Alice" in payload for payload in kept.values())
        await db.execute("delete from sighting")  # retention, while nobody publishes
        async with notifying(db, store, settings, Names(["door", "hall"])):
            await heard.wait("sightline/hall/person", b"")


async def test_names_are_not_kept_by_the_broker_where_the_settings_say_so(db: Database, store: SightingStore) -> None:
    async with broker(free_port()) as settings, ear(settings) as heard:
        own = settings.model_copy(update={"retain_names": False})
        async with notifying(db, store, own, Names(["door"])):
            await store.upsert([arrival("a", subject="alice")], now_s=NOW_S)
            assert await heard.wait("sightline/door/person") == b"Alice"
        assert "sightline/door/person" not in dict(await retained(settings))


# what Home Assistant's discovery asks for: https://www.home-assistant.io/integrations/{mqtt,sensor.mqtt,binary_sensor.mqtt}
REQUIRED = {"sensor": {"state_topic"}, "binary_sensor": {"state_topic"}}
ENTITY = {"name", "unique_id", "device", "origin"}


def check_discovery(topic: str, config: dict[str, Any]) -> None:
    prefix, component, node, entity, last = topic.split("/")
    assert (prefix, last) == ("homeassistant", "config")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", node)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", entity)
    assert REQUIRED[component] | ENTITY <= set(config)
    assert config["device"]["identifiers"]
    assert config["origin"]["name"] == "Sightline"
    assert config.get("device_class") in {None, "occupancy", "connectivity"}


async def test_home_assistant_finds_each_camera_and_loses_it_when_it_goes(db: Database, store: SightingStore) -> None:
    cameras = Names(["door", "hall.2"])
    async with broker(free_port()) as settings, ear(settings) as heard, notifying(db, store, settings, cameras):
        for node in ("sightline_door", "sightline_hall_2_91d8c0c5"):
            await heard.wait(f"homeassistant/binary_sensor/{node}/unknown/config") if node == "sightline_door" else None
        await heard.wait("sightline/hall.2/unknown", b"OFF")
        configs = {topic: json.loads(payload) for topic, payload in await retained(settings, "homeassistant/")}
        assert len(configs) == 7
        for topic, config in configs.items():
            check_discovery(topic, config)
        assert len({config["unique_id"] for config in configs.values()}) == 7
        states = {config["state_topic"] for config in configs.values()}
        assert states == {"sightline/status"} | {
            f"sightline/{camera}/{name}" for camera in cameras for name in ("person", "known", "unknown")
        }
        assert all(config.get("availability_topic", "sightline/status") == "sightline/status" for config in configs.values())
        await store.upsert([arrival("a", camera="hall.2", subject="bob")], now_s=NOW_S)
        await heard.wait("sightline/hall.2/person", b"Bob")
        cameras.remove("hall.2")
        await told(db)
        await heard.wait("sightline/hall.2/unknown", b"")
        left = [topic for topic, _ in await retained(settings) if "hall" in topic]
    assert left == []


async def told(db: Database) -> None:
    async with db.transaction() as tx:
        await tell_each(tx, "camera", [Told(key="hall.2", revision=0)])


def test_two_cameras_never_share_a_device() -> None:
    nodes = {camera_discovery("ha", "s", camera)[0].topic for camera in ("a.b", "a_b", "a-b", "a..b", "A_b")}
    assert len(nodes) == 5


async def test_alerts_are_published_by_watchlist(db: Database, store: SightingStore) -> None:
    await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', 'Alice')", uuid.UUID(ALICE))
    lists = WatchlistStore(db)
    await lists.add("wanted", collection="default")
    await lists.put("wanted", [ALICE])
    async with broker(free_port()) as settings, ear(settings) as heard, notifying(db, store, settings, Names(["door"])):
        await heard.wait("sightline/status", b"online")
        await store.upsert([arrival("a", subject="alice")], now_s=NOW_S)
        body = await heard.wait_json("sightline/alert/wanted")
        assert (body["subject"], body["camera"], body["state"]) == ("Alice", "door", "new")


# --- Double Take ---------------------------------------------------------------------------------------------------------------


async def test_double_take_topics_have_their_shapes(db: Database, store: SightingStore) -> None:
    async with broker(free_port()) as settings, ear(settings) as heard:
        async with notifying(db, store, settings.model_copy(update={"double_take": True}), Names(["door"])):
            await heard.wait("double-take/cameras/door/person", b"0")
            await store.upsert([arrival("a", subject="alice")], now_s=NOW_S)
            match = await heard.wait_json("double-take/matches/Alice")
            camera = await heard.wait_json("double-take/cameras/door")
            await heard.wait("double-take/cameras/door/person", b"1")
            await store.upsert([arrival("a", subject="alice", revision=2, closed=True), arrival("b", first_s=1)], now_s=NOW_S)
            unknown = await heard.wait_json("double-take/matches/unknown")
            await heard.wait("double-take/cameras/door", count=2)
        assert len(heard.all("double-take/matches/Alice")) == 1  # not again when he leaves
        kept = {topic for topic, _ in await retained(settings, "double-take/")}
    assert list(match) == ["id", "duration", "timestamp", "attempts", "camera", "zones", "match"]
    assert list(match["match"]) == ["name", "confidence", "match", "box", "type", "duration", "detector", "filename", "base64"]
    assert match["match"] | {"filename": ""} == {
        "name": "Alice",
        "confidence": 99.93,
        "match": True,
        "box": {"top": 20, "left": 10, "width": 100, "height": 130},
        "type": "sightline",
        "duration": 0.0,
        "detector": "sightline",
        "filename": "",
        "base64": None,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", match["timestamp"])
    assert camera["counts"] == {"person": 1, "match": 1, "miss": 0, "unknown": 0}
    assert (camera["matches"], camera["misses"], camera["unknowns"], camera["personCount"]) == ([match["match"]], [], [], 1)
    assert (unknown["unknown"]["name"], unknown["unknown"]["match"]) == ("unknown", False)
    assert kept == {"double-take/cameras/door/person"}


def test_a_confidence_is_90_at_the_threshold_and_grows_with_the_score() -> None:
    assert confidence(0.48, 0.48) == 90.0
    assert confidence(0.28, 0.48) < 20 < 50 < confidence(0.38, 0.48) < 60 < 98 < confidence(0.58, 0.48) < 99
    assert confidence(None, 0.48) == 0.0


@pytest.mark.parametrize(
    ("name", "level"), [("Ada Lovelace", "Ada-Lovelace"), ("a/b#c+d", "abcd"), ("Ärger", "Ärger"), ("#", "unnamed"), ("x\x00\ny", "x-y")]
)
def test_a_name_is_one_level_of_a_topic(name: str, level: str) -> None:
    assert topic_level(name) == level


# --- Frigate -------------------------------------------------------------------------------------------------------------------


def frigate_event(
    event_id: str, *, camera: str = "front", began_s: float = NOW_S, ended_s: float | None = None, label: str = "person"
) -> bytes:
    after = {"id": event_id, "camera": camera, "label": label, "start_time": began_s, "end_time": ended_s}
    return json.dumps({"type": "update", "before": {}, "after": after}).encode()


class Frigate:
    """Frigate's API, as far as sub labels go."""

    def __init__(self) -> None:
        self.labels: list[tuple[str, dict[str, Any]]] = []
        self.failures = 0
        self.answers = asyncio.Event()
        self.answers.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async def take(request: web.Request) -> web.Response:
            await self.answers.wait()
            if self.failures:
                self.failures -= 1
                return web.Response(status=500)
            self.labels.append((request.match_info["event_id"], await request.json()))
            return web.json_response({"success": True})

        app = web.Application()
        app.router.add_post("/api/events/{event_id}/sub_label", take)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def test_frigates_people_get_their_names(db: Database, store: SightingStore) -> None:
    frigate = Frigate()
    async with frigate.serving() as url, broker(free_port()) as settings, ear(settings) as heard:
        own = FrigateSettings(url=url, cameras={"front": "door"})
        async with open_frigate(own, store, Metrics()) as labels:
            assert labels is not None
            async with notifying(db, store, settings, Names(["door"]), frigate=dataclasses.replace(labels, clock=lambda: NOW_S + 60)):
                await heard.wait("sightline/status", b"online")
                await heard.wait("sightline/door/known", b"OFF")
                frigate.failures = 1
                await heard.client.publish("frigate/events", frigate_event("17.1-a"), qos=1)
                await heard.wait("frigate/events")
                await store.upsert([arrival("a", subject="alice")], now_s=NOW_S)
                async with asyncio.timeout(WAIT_S):
                    while not frigate.labels:  # noqa: ASYNC110 - another server's
                        await asyncio.sleep(0.01)
                await heard.client.publish("frigate/events", frigate_event("17.1-a", ended_s=NOW_S + 9), qos=1)
                await heard.wait("frigate/events", count=2)
    assert frigate.labels == [("17.1-a", {"subLabel": "Alice", "subLabelScore": 1.0})]


async def test_a_frigate_that_hangs_keeps_no_message_waiting(db: Database, store: SightingStore) -> None:
    frigate = Frigate()
    frigate.answers.clear()
    async with frigate.serving() as url, broker(free_port()) as settings, ear(settings) as heard:
        own = FrigateSettings(url=url, cameras={"front": "door"})
        async with open_frigate(own, store, Metrics()) as labels, notifying(db, store, settings, Names(["door"]), frigate=labels):
            await heard.wait("sightline/door/known", b"OFF")
            await heard.client.publish("frigate/events", frigate_event("17.1-a", ended_s=NOW_S + 9), qos=1)
            await heard.wait("frigate/events")
            await store.upsert([arrival("a", subject="alice")], now_s=NOW_S)
            await heard.wait("sightline/door/person", b"Alice")
            frigate.answers.set()
            async with asyncio.timeout(WAIT_S):
                while not frigate.labels:  # noqa: ASYNC110 - another server's
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([frigate_event("one")], ["one"]),
        ([frigate_event("one", camera="back")], []),
        ([frigate_event("one", began_s=NOW_S - 90, ended_s=NOW_S - 60)], []),
        ([frigate_event("one", label="dog")], []),
        ([frigate_event("one", ended_s=NOW_S + 30), frigate_event("two", began_s=NOW_S + 2)], ["one"]),
        ([frigate_event("../../x")], []),
        ([b"[]", b"\xff", b'{"after": null}'], []),
    ],
)
async def test_only_who_is_alone_at_that_camera_at_that_time_is_named(
    db: Database, store: SightingStore, events: list[bytes], expected: list[str]
) -> None:
    frigate = Frigate()
    await store.upsert([arrival("a", camera="front", subject="alice")], now_s=NOW_S)
    async with frigate.serving() as url, open_frigate(FrigateSettings(url=url), store, Metrics()) as labels:
        assert labels is not None
        for event in events:
            await labels.hear(event)
    assert [event_id for event_id, _ in frigate.labels] == expected


async def test_frigate_away_costs_a_label_and_nothing_else(store: SightingStore) -> None:
    await store.upsert([arrival("a", camera="front", subject="alice")], now_s=NOW_S)
    metrics = Metrics()
    async with open_frigate(FrigateSettings(url=f"http://127.0.0.1:{free_port()}"), store, metrics) as labels:
        assert labels is not None
        await labels.hear(frigate_event("one"))
    assert b'sightline_mqtt_frigate_labels_total{outcome="failed"} 1.0' in metrics.render()


async def test_without_frigate_nobody_is_labelled(store: SightingStore) -> None:
    async with open_frigate(FrigateSettings(), store, Metrics()) as labels:
        assert labels is None
    assert person_of(frigate_event("one"), {"front": "door"}).camera == "door"  # type: ignore[union-attr]
