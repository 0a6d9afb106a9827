"""Real ingesters on real servers: killed, stopped, and with Kafka away. Frames are counted in Kafka itself, by their numbers."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from cli.services.local import LocalServers
from cli.services.member import Member, total
from core.adapters.kafka_log import open_kafka_log
from core.adapters.kafka_plan import Retention, fleet_topics
from core.adapters.kafka_topics import TopicAdmin
from core.adapters.postgres import open_database
from core.schema import FrameHeader, decode
from core.secrets import open_secret_box
from core.settings import KafkaSettings
from ingest.cameras import CameraSpec, CameraStore
from ingest.leases import LeaseStore
from tests.builders.clips import write_clip

pytestmark = pytest.mark.timeout(400)
TAKEOVER_S = 10.0


class Fleet:
    """Ingesters, their database, and everything that arrives in Kafka."""

    def __init__(self, folder: Path, kafka_url: str, postgres_url: str) -> None:
        self.folder, self.kafka_url = folder, kafka_url
        self.region = f"t{uuid.uuid4().hex[:8]}"
        self.clip = write_clip(folder / "clip.mp4", frames=50, fps=25)
        self.environment = {
            "SIGHTLINE_DATABASE_URL": postgres_url,
            "SIGHTLINE_LOG_URL": kafka_url,
            "SIGHTLINE_DATA_DIR": str(folder / "data"),
            "SIGHTLINE_METRICS__PORT": "0",
        }
        self.members: dict[str, Member] = {}
        self.headers: list[FrameHeader] = []
        self.came_s: dict[str, float] = {}
        """Session -> when its first frame arrived."""
        self.cameras: CameraStore
        self.leases: LeaseStore

    @asynccontextmanager
    async def opened(self, cameras: int) -> AsyncIterator["Fleet"]:
        """Add cameras, make topics, and follow what arrives."""
        where = files("deploy") / "migrations"
        async with open_database(self.environment["SIGHTLINE_DATABASE_URL"], data_dir=self.folder / "data", migrations=where) as db:
            self.cameras, self.leases = CameraStore(db, open_secret_box(self.folder / "data")), LeaseStore(db)
            for number in range(cameras):
                await self.cameras.add(CameraSpec(name=f"{self.region}-{number}", url=str(self.clip), region=self.region, loop=True))
            self.make_topics(self.region)
            async with open_kafka_log(self.kafka_url, KafkaSettings()) as log:
                reading = asyncio.create_task(self._read(log))
                try:
                    yield self
                finally:
                    for member in self.members.values():
                        member.kill()
                    reading.cancel()
                    await asyncio.wait({reading})

    def make_topics(self, region: str) -> None:
        specs = fleet_topics({region: 4}, replication=1, retention=Retention())
        TopicAdmin(self.kafka_url, KafkaSettings()).ensure([spec for spec in specs if spec.name == f"frames.{region}"])

    async def _read(self, log) -> None:
        async with log.consumer([f"frames.{self.region}*"], f"test-{self.region}") as consumer:
            while True:
                records = await consumer.poll(500, 0.2)
                for record in records:
                    header, _ = decode(FrameHeader, record.value)
                    assert (record.key, record.topic) == (header.camera, f"frames.{header.region}")
                    self.headers.append(header)
                    self.came_s.setdefault(header.frame_id.rpartition("/")[0], time.monotonic())
                await consumer.commit(records)

    def start(self, *names: str) -> None:
        for name in names:
            if name not in self.members:
                command = ["ingest", "--name", name, "--json"]
                self.members[name] = Member(name, command, settings=self.environment, folder=self.folder)
            self.members[name].start()

    async def ready(self, name: str) -> None:
        """Wait until an ingester is ready, and may be scraped."""
        await asyncio.to_thread(self.members[name].await_ready)

    async def shares(self) -> dict[str, list[str]]:
        """Ingester -> its cameras that are live."""
        shares: dict[str, list[str]] = {}
        for state in (await self.leases.states()).values():
            if state.state == "live":
                shares.setdefault(state.ingester, []).append(state.camera)
        return shares

    async def until_shared(self, *loads: int, timeout_s: float = 90.0) -> dict[str, list[str]]:
        async with asyncio.timeout(timeout_s):
            while True:
                shares = await self.shares()
                if sorted(len(share) for share in shares.values()) == sorted(loads):
                    return shares
                await asyncio.sleep(0.1)

    async def until(self, what: Callable[[], bool], timeout_s: float) -> float:
        """Return how long it took, in seconds."""
        began_s = time.monotonic()
        async with asyncio.timeout(timeout_s):
            while not what():  # noqa: ASYNC110 - watches other processes
                await asyncio.sleep(0.05)
        return time.monotonic() - began_s

    def sessions(self, camera: str) -> set[str]:
        return {header.frame_id.rpartition("/")[0] for header in self.headers if header.camera == camera}

    def numbers(self) -> dict[str, list[int]]:
        """Session -> the numbers of its frames, as they came."""
        numbers: dict[str, list[int]] = {}
        for header in self.headers:
            session, _, number = header.frame_id.rpartition("/")
            numbers.setdefault(session, []).append(int(number))
        return numbers

    def scrape(self, name: str, metric: str) -> float:
        return total(self.members[name].scrape(), f"sightline_ingest_{metric}")


def without_holes(numbers: list[int]) -> bool:
    """Whether nothing is missing and, duplicates aside, the order held."""
    first = list(dict.fromkeys(numbers))
    return first == list(range(len(first)))


async def test_a_killed_ingester_is_taken_over_within_ten_seconds(
    tmp_path: Path, kafka_url: str, fresh_postgres_url: str, record_property: Callable[[str, object], None]
) -> None:
    async with Fleet(tmp_path, kafka_url, fresh_postgres_url).opened(6) as fleet:
        fleet.start("a", "b", "c")
        shares = await fleet.until_shared(2, 2, 2)
        await fleet.until(lambda: len(fleet.came_s) >= 6, 30)
        kept = {camera: fleet.sessions(camera) for name in "ac" for camera in shares[name]}
        before = {camera: fleet.sessions(camera) for camera in shares["b"]}
        fleet.members["b"].kill()
        took_s = await fleet.until(lambda: all(fleet.sessions(camera) > old for camera, old in before.items()), 60)
        after = await fleet.until_shared(3, 3)
        record_property("told", f"ingester killed: its cameras' frames flow again after {took_s:.1f} s")
        assert took_s < TAKEOVER_S
        assert sorted(after) == ["a", "c"]
        assert {camera: fleet.sessions(camera) for camera in kept} == kept
        began_s = time.monotonic()
        assert fleet.members["c"].terminate() == 0
        await fleet.until_shared(6)
        record_property("told", f"ingester stopped: its cameras run elsewhere after {time.monotonic() - began_s:.1f} s")
        await fleet.until(lambda: len(fleet.came_s) >= 11, 30)
    assert all(without_holes(numbers) for numbers in fleet.numbers().values())


@pytest.mark.full
async def test_a_paused_ingester_stops_what_others_took_when_it_wakes(tmp_path: Path, kafka_url: str, fresh_postgres_url: str) -> None:
    async with Fleet(tmp_path, kafka_url, fresh_postgres_url).opened(4) as fleet:
        fleet.start("a", "b")
        await fleet.until_shared(2, 2)
        fleet.members["b"].pause()
        await fleet.until_shared(4, timeout_s=40)
        fleet.members["b"].resume()
        await fleet.until_shared(2, 2, timeout_s=40)
        await asyncio.sleep(1.0)
        before = len(fleet.headers)
        await fleet.until(lambda: len(fleet.headers) > before + 40, 30)
        running = {header.frame_id.rpartition("/")[0] for header in fleet.headers[before + 10 :]}
    assert len(running) == 4


async def test_cameras_are_added_changed_and_disabled_while_ingesters_run(tmp_path: Path, kafka_url: str, fresh_postgres_url: str) -> None:
    async with Fleet(tmp_path, kafka_url, fresh_postgres_url).opened(1) as fleet:
        fleet.start("a")
        first = f"{fleet.region}-0"
        await fleet.until(lambda: bool(fleet.sessions(first)), 90)
        second = CameraSpec(name=f"{fleet.region}-x", url=str(fleet.clip), region=fleet.region, loop=True)
        await fleet.cameras.add(second)
        await fleet.until(lambda: bool(fleet.sessions(second.name)), 15)
        elsewhere = f"{fleet.region}-two"
        fleet.make_topics(elsewhere)
        await fleet.cameras.replace(CameraSpec(name=first, url=str(fleet.clip), region=elsewhere, loop=True, max_fps=5))
        await fleet.until(lambda: any(h.region == elsewhere and h.camera == first for h in fleet.headers), 25)
        await fleet.cameras.set_enabled(second.name, False)
        async with asyncio.timeout(15):
            while set(await fleet.leases.states()) != {first}:  # noqa: ASYNC110 - its lease goes once its thread has stopped
                await asyncio.sleep(0.1)
        assert fleet.members["a"].starts == 1


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """A Kafka that may be stopped."""
    with LocalServers(tmp_path_factory.mktemp("servers")) as servers:
        servers.start("kafka")
        yield servers


@pytest.mark.full
async def test_kafka_stopped_for_20_s_costs_no_frame_and_no_order(
    tmp_path: Path, own_kafka: LocalServers, fresh_postgres_url: str, record_property: Callable[[str, object], None]
) -> None:
    async with Fleet(tmp_path, own_kafka.url("kafka"), fresh_postgres_url).opened(4) as fleet:
        fleet.start("a")
        await fleet.ready("a")
        await fleet.until_shared(4)
        await fleet.until(lambda: len(fleet.headers) > 50, 60)
        await asyncio.to_thread(own_kafka.stop, "kafka")
        stopped_s = time.monotonic()
        await asyncio.sleep(20.0)
        spooled = fleet.scrape("a", "spool_frames")
        await asyncio.to_thread(own_kafka.start, "kafka")
        back_s = time.monotonic()
        await fleet.until(lambda: fleet.scrape("a", "spool_frames") == 0, 90)
        drained_s = time.monotonic() - back_s
        before = len(fleet.headers)
        await fleet.until(lambda: len(fleet.headers) > before + 40, 60)
        dropped, lost = fleet.scrape("a", "frames_dropped_total"), fleet.scrape("a", "frames_lost_total")
        line = f"Kafka away for {back_s - stopped_s:.0f} s: {spooled:.0f} frames spooled, drained {drained_s:.1f} s after its return"
        record_property("told", f"{line}; dropped {dropped:.0f}, lost {lost:.0f}")
        assert fleet.members["a"].terminate() == 0
    assert spooled > 100
    assert (dropped, lost) == (0, 0)
    assert len(fleet.numbers()) == 4
    assert all(without_holes(numbers) for numbers in fleet.numbers().values())


@pytest.mark.full
async def test_an_ingester_killed_while_kafka_is_away_leaves_its_frames_to_the_next(
    tmp_path: Path, own_kafka: LocalServers, fresh_postgres_url: str
) -> None:
    async with Fleet(tmp_path, own_kafka.url("kafka"), fresh_postgres_url).opened(2) as fleet:
        fleet.start("a")
        await fleet.ready("a")
        await fleet.until_shared(2)
        await fleet.until(lambda: len(fleet.headers) > 20, 60)
        await asyncio.to_thread(own_kafka.stop, "kafka", kill=True)
        await fleet.until(lambda: fleet.scrape("a", "spool_frames") > 60, 60)
        spooled = fleet.scrape("a", "spool_frames")
        old = set(fleet.numbers())
        fleet.members["a"].kill()
        fleet.start("a")
        await asyncio.to_thread(own_kafka.start, "kafka")
        await fleet.ready("a")
        await fleet.until_shared(2)
        await fleet.until(lambda: len(set(fleet.numbers()) - old) == 2 and fleet.scrape("a", "spool_frames") == 0, 90)
        await asyncio.sleep(2.0)
        assert fleet.scrape("a", "frames_lost_total") == 0
    numbers = fleet.numbers()
    assert all(without_holes(mine) for mine in numbers.values())
    assert sum(len(set(numbers[session])) for session in old) >= spooled
    for camera in {session.partition("/")[0] for session in numbers}:
        order = [header.frame_id.rpartition("/")[0] for header in fleet.headers if header.camera == camera]
        assert len(list(dict.fromkeys(order))) == 2
        assert order == sorted(order, key=list(dict.fromkeys(order)).index)  # all of the old session before any of the new


@pytest.mark.full
async def test_a_restart_of_postgresql_moves_no_camera(
    tmp_path: Path, kafka_url: str, record_property: Callable[[str, object], None]
) -> None:
    with LocalServers(tmp_path / "servers") as servers:
        servers.start("postgres")
        async with Fleet(tmp_path, kafka_url, servers.url("postgres")).opened(4) as fleet:
            fleet.start("a", "b")
            before = await fleet.until_shared(2, 2)
            await fleet.until(lambda: len(fleet.came_s) >= 4, 30)
            settled = len(fleet.came_s)
            await asyncio.to_thread(servers.stop, "postgres", kill=True)
            during = len(fleet.headers)
            await asyncio.sleep(8.0)  # longer than a lease
            seen = len(fleet.headers) - during
            await asyncio.to_thread(servers.start, "postgres")
            await asyncio.sleep(10.0)
            added = CameraSpec(name=f"{fleet.region}-new", url=str(fleet.clip), region=fleet.region, loop=True)
            await fleet.cameras.add(added)
            took_s = await fleet.until(lambda: bool(fleet.sessions(added.name)), 30)
            after = await fleet.shares()
    record_property(
        "told", f"PostgreSQL restarted: {seen} frames came while it was away, a new camera runs {took_s:.1f} s after it was added"
    )
    assert seen > 50
    assert len(fleet.came_s) == settled + 1
    assert all(set(after[name]) >= set(cameras) for name, cameras in before.items())
    assert all(without_holes(numbers) for numbers in fleet.numbers().values())
