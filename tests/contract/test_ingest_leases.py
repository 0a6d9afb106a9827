"""A fleet of ingesters that share cameras by leases in PostgreSQL: several at once, no mocks."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from core.errors import ConflictError, UnavailableError
from core.metrics import Metrics
from core.ports import Database
from core.secrets import SecretBox, open_secret_box
from ingest.camera import CameraStatus
from ingest.cameras import CameraSpec, CameraStore
from ingest.leased import LeasedCameras
from ingest.leases import Identity, LeaseStore

LEASE_S = 1.2  # the server may have started a second ago, and nobody counts as silent for longer than it runs


class Clock:
    """How long processes have been running: moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def status(name: str, state: str = "live") -> CameraStatus:
    return CameraStatus(
        camera=name,
        region="default",
        url="",
        state=state,  # type: ignore[arg-type]
        reason="",
        since_s=0.0,
        width_px=0,
        height_px=0,
        fps=0.0,
        decoded=0,
        published=0,
        dropped=0,
        damaged=0,
        reconnects=0,
    )


class Host:
    """One ingester: what it would run, without running anything."""

    def __init__(self, fleet: "Fleet", name: str, regions: Sequence[str], clock: Callable[[], float]) -> None:
        self.me = Identity(id=name, token=str(uuid.uuid4()), host="here", pid=1, regions=tuple(regions))
        self.metrics = Metrics()
        self.cameras = LeasedCameras(LeaseStore(fleet.db), fleet.cameras, self.me, lease_s=LEASE_S, metrics=self.metrics, clock=clock)
        self.runs: set[str] = set()
        self.specs: dict[str, CameraSpec] = {}

    async def look(self) -> None:
        """What the service does every few seconds."""
        self.specs = {spec.name: spec for spec in await self.cameras.enabled()}
        self.runs = set(self.specs)
        await self.cameras.settled([status(name) for name in sorted(self.runs)])


class Fleet:
    """Hosts on one database."""

    def __init__(self, db: Database, box: SecretBox) -> None:
        self.db, self.clock = db, Clock()
        self.cameras = CameraStore(db, box)
        self.hosts: list[Host] = []

    def join(self, name: str, regions: Sequence[str] = ()) -> Host:
        host = Host(self, name, regions, self.clock)
        self.hosts.append(host)
        return host

    async def add(self, count: int, region: str = "default") -> None:
        for number in range(count):
            await self.cameras.add(CameraSpec(name=f"{region}-{number:03d}", url=f"rtsp://10.0.0.{number}/1", region=region))

    async def looks(self, times: int = 1) -> None:
        """All hosts look, at the same moment, and nobody runs what another runs."""
        for _ in range(times):
            await asyncio.gather(*(host.look() for host in self.hosts))
            assert max(Counter(name for host in self.hosts for name in host.runs).values(), default=0) <= 1

    async def pass_leases(self, leases: float, *, dead: Sequence[Host] = ()) -> None:
        """Let time pass: the living keep giving signs of life, the dead do not."""
        self.hosts = [host for host in self.hosts if host not in dead]
        self.clock.now_s += leases * LEASE_S
        await asyncio.sleep(leases * LEASE_S)
        living = [host.me.id for host in self.hosts]
        await self.db.execute("update ingester set seen_at = clock_timestamp() where id = any($1)", living)

    @property
    def loads(self) -> list[int]:
        return sorted(len(host.runs) for host in self.hosts)

    @property
    def running(self) -> set[str]:
        return {name for host in self.hosts for name in host.runs}


@pytest.fixture
def fleet(db: Database, tmp_path: Path) -> Fleet:
    return Fleet(db, open_secret_box(tmp_path))


async def test_one_ingester_runs_everything(fleet: Fleet) -> None:
    await fleet.add(7)
    fleet.join("a")
    await fleet.looks()
    assert fleet.loads == [7]
    assert fleet.hosts[0].specs["default-003"].url == "rtsp://10.0.0.3/1"


async def test_those_that_start_together_share_without_a_double(fleet: Fleet) -> None:
    await fleet.add(31)
    for name in "abcde":
        fleet.join(name)
    await fleet.looks(12)
    assert fleet.loads == [6, 6, 6, 6, 7]
    assert len(fleet.running) == 31


async def test_a_newcomer_gets_its_share_step_by_step_and_nothing_else_moves(fleet: Fleet) -> None:
    await fleet.add(40)
    a, b = fleet.join("a"), fleet.join("b")
    await fleet.looks(12)
    before = {host.me.id: set(host.runs) for host in (a, b)}
    c = fleet.join("c")
    await c.look()
    assert c.runs == set()
    grown = []
    for _ in range(8):
        await fleet.looks()
        grown.append(len(c.runs))
    assert grown[0] <= 8
    assert fleet.loads == [13, 13, 14]
    assert a.runs < before["a"]
    assert b.runs < before["b"]


async def test_a_fair_share_stays_as_it_is(fleet: Fleet) -> None:
    await fleet.add(11)
    for name in "abc":
        fleet.join(name)
    await fleet.looks(10)
    shares = [set(host.runs) for host in fleet.hosts]
    await fleet.looks(5)
    assert [host.runs for host in fleet.hosts] == shares


async def test_the_dead_are_taken_over_by_all_that_live(fleet: Fleet) -> None:
    await fleet.add(12)
    a, b, c = (fleet.join(name) for name in "abc")
    await fleet.looks(10)
    await fleet.pass_leases(0.6)
    await fleet.looks()
    await fleet.pass_leases(0.6, dead=[a])  # late, not dead
    await fleet.looks()
    assert fleet.loads == [4, 4]
    await fleet.pass_leases(0.6, dead=[a])
    await fleet.looks(2)
    assert fleet.loads == [6, 6]
    assert len(fleet.running) == 12
    assert (b.metrics.registry.get_sample_value("sightline_ingest_leases_moved_total", {"way": "taken"}) or 0) >= 6
    assert c.metrics.registry.get_sample_value("sightline_ingest_leases") == 6


async def test_one_that_was_given_up_joins_again_and_runs_nothing_that_moved(fleet: Fleet) -> None:
    await fleet.add(6)
    a, b = fleet.join("a"), fleet.join("b")
    await fleet.looks(8)
    await fleet.pass_leases(0.6)
    await fleet.looks()
    await fleet.pass_leases(0.6, dead=[a])
    await b.look()
    await fleet.pass_leases(0.6, dead=[a])
    await b.look()
    await b.look()
    assert len(b.runs) == 6
    fleet.hosts.append(a)
    await a.look()
    assert a.runs == set()
    await fleet.looks(8)
    assert fleet.loads == [3, 3]


async def test_nobody_is_given_up_by_one_that_has_just_come_back_itself(fleet: Fleet) -> None:
    """After an outage of the database everybody looks dead to the first one back."""
    await fleet.add(6)
    a, b = fleet.join("a"), fleet.join("b")
    await fleet.looks(8)
    fleet.clock.now_s += 1.5 * LEASE_S
    await asyncio.sleep(1.5 * LEASE_S)
    await a.look()
    await a.look()
    assert len(a.runs) == 3
    await b.look()
    assert (len(a.runs), len(b.runs)) == (3, 3)


async def test_a_graceful_end_frees_at_once(fleet: Fleet) -> None:
    await fleet.add(6)
    a, b = fleet.join("a"), fleet.join("b")
    await fleet.looks(8)
    watching = asyncio.create_task(a.cameras.watch(lambda: None))
    await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.wait({watching})
    fleet.hosts = [b]
    await fleet.looks(2)
    assert fleet.loads == [6]


async def test_a_camera_is_freed_only_once_it_has_stopped(fleet: Fleet) -> None:
    await fleet.add(2)
    a = fleet.join("a")
    await fleet.looks()
    b = fleet.join("b")
    await b.look()
    (kept,) = (spec.name for spec in await a.cameras.enabled())
    still_running = [status("default-000"), status("default-001")]
    await a.cameras.settled(still_running)
    await b.look()
    assert b.runs == set()
    await a.cameras.settled([status(kept)])
    await b.look()
    assert b.runs == {"default-000", "default-001"} - {kept}


async def test_regions_are_served_by_their_own_and_shared_among_them(fleet: Fleet) -> None:
    await fleet.add(6, "north")
    await fleet.add(4, "south")
    north, both = fleet.join("n", ["north"]), fleet.join("x")
    await fleet.looks(10)
    assert fleet.loads == [5, 5]
    assert all(name.startswith("north") for name in north.runs)
    south = fleet.join("s", ["south"])
    await fleet.looks(10)
    assert fleet.loads == [3, 3, 4]
    assert all(name.startswith("south") for name in south.runs)
    assert len(fleet.running) == 10
    assert both.runs


async def test_a_region_that_nobody_serves_is_told(fleet: Fleet) -> None:
    await fleet.add(2, "north")
    await fleet.add(1, "south")
    host = fleet.join("n", ["north"])
    await fleet.looks()
    assert host.runs == {"north-000", "north-001"}
    scope = fleet.join("s", ["south"])
    await fleet.looks()
    assert scope.runs == {"south-000"}


async def test_cameras_added_changed_disabled_removed_and_moved_are_followed(fleet: Fleet) -> None:
    await fleet.add(2, "north")
    a, b = fleet.join("a", ["north"]), fleet.join("b", ["south"])
    await fleet.looks()
    await fleet.cameras.replace(CameraSpec(name="north-000", url="rtsp://new/1", region="north", max_fps=3))
    await fleet.looks()
    assert (a.specs["north-000"].url, a.specs["north-000"].max_fps) == ("rtsp://new/1", 3)
    await fleet.cameras.replace(CameraSpec(name="north-000", url="rtsp://new/1", region="south"))
    await a.look()
    await b.look()
    assert (a.runs, b.runs) == ({"north-001"}, {"north-000"})
    await fleet.cameras.set_enabled("north-000", False)
    await fleet.cameras.remove("north-001")
    await fleet.looks()
    assert fleet.running == set()
    assert await fleet.db.fetch("select * from camera_lease") == []


async def test_two_processes_of_one_name_do_not_run_side_by_side(fleet: Fleet) -> None:
    await fleet.add(2)
    first, second = fleet.join("a"), fleet.join("a")
    await first.look()
    await second.look()
    assert len(second.runs) == 2  # the name's leases go on at once: a restart costs no lease time
    with pytest.raises(ConflictError, match="another ingester goes by the name a now"):
        await first.look()


async def test_a_camera_of_another_key_is_left_out_and_hurts_no_other(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.add(1)
    await CameraStore(fleet.db, open_secret_box(tmp_path / "other")).add(CameraSpec(name="x", url="rtsp://x/1"))
    host = fleet.join("a")
    await fleet.looks(3)
    assert host.runs == {"default-000"}


async def test_states_are_told_to_people_elsewhere(fleet: Fleet) -> None:
    await fleet.add(1)
    host = fleet.join("a")
    await host.cameras.enabled()
    await host.cameras.settled([status("default-000", "retrying")])
    state = (await LeaseStore(fleet.db).states())["default-000"]
    assert (state.ingester, state.state) == ("a", "retrying")


async def test_a_change_of_a_camera_asks_for_a_look_at_once(fleet: Fleet) -> None:
    await fleet.add(1)
    host = Host(fleet, "a", (), time.monotonic)
    await host.look()
    looked = asyncio.Event()
    async with watching(host, looked):
        await asyncio.sleep(0.3)
        looked.clear()
        await fleet.cameras.set_enabled("default-000", False)
        async with asyncio.timeout(1.0):
            await looked.wait()


@asynccontextmanager
async def watching(host: Host, looked: asyncio.Event):
    task = asyncio.create_task(host.cameras.watch(looked.set))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class AwayDatabase:
    """A database that refuses everything."""

    def __getattr__(self, name: str):
        async def refuse(*_: object) -> None:
            raise UnavailableError("the database is away")

        return refuse


async def test_an_outage_is_unavailable_and_nothing_else(fleet: Fleet) -> None:
    host = fleet.join("a")
    host.cameras._leases = LeaseStore(AwayDatabase())  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        await host.cameras.enabled()
    assert host.cameras.problem == "the database is away"
