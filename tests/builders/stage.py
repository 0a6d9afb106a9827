"""The scripted scene on a real fleet, played once undisturbed and once under each fault."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cli.services.findings import Finding, Seen, expected, findings, read_rows, read_seen
from cli.services.fleet import WATCHLIST, Account, Fleet, Plan
from cli.services.install import cache_dir
from cli.services.local import LocalServers
from cli.services.model import DEFAULT_KINDS
from cli.services.rtsp import RtspServer
from cli.services.scene import DURATION_S, SceneCamera, scene_cameras, scene_clips
from core.errors import UnavailableError
from tests.builders.proxy import TcpProxy

Event = tuple[float, Callable[[], object]]
"""(seconds into the scene, what happens)."""

DRAIN_S = 90.0
FOLLOW_POLL_S = 0.5
CALM_S = 6.0
"""The pause between two scenes: tracks of the last one end."""

_ALERTS = """
select camera, coalesce(subject, '') as subject, extract(epoch from first_at)::float8 as first_s
from alert where raised_at >= to_timestamp($1) and watchlist = $2
"""
_NEWEST = (
    "select camera, max(extract(epoch from last_at))::float8 as last_s from sighting where last_at >= to_timestamp($1) group by camera"
)

SMALL: dict[str, str] = {
    "SIGHTLINE_MODELS__THREADS": "1",
    "SIGHTLINE_MODELS__DETECTOR_SIDE_PX": "320",
    "SIGHTLINE_SIGHTINGS__EPISODE_GAP_S": "20",
    "SIGHTLINE_INGEST__MAX_FPS": "5",
}
"""Settings for small pictures and two cores."""


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What a scene left behind."""

    began_s: float
    found: set[Finding]
    seen: list[Seen]
    account: Account
    alerts: Counter[tuple[str, str]]
    """(camera, subject) -> how many."""
    recovered_s: float | None
    """From the fault until every camera with a visitor was followed again; None without a fault."""
    drained_s: float
    """From the scene's end until no frame was in flight."""


@dataclass
class Stage:
    """Servers, simulated cameras and a fleet, kept over all tests of a session."""

    folder: Path
    servers: LocalServers
    cameras: Sequence[SceneCamera]
    rtsp: RtspServer
    fleet: Fleet
    proxies: dict[str, TcpProxy] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, *, plan: Plan | None = None) -> "Stage":
        """Start servers and cameras, prepare and launch the fleet."""
        servers = LocalServers(folder / "services")
        servers.start(DEFAULT_KINDS)
        cameras = scene_cameras()
        rtsp = RtspServer(scene_clips(cache_dir() / "scene", cameras))
        rtsp.__enter__()
        fleet = Fleet(folder=folder / "fleet", settings={**servers.env(), **SMALL}, plan=plan or Plan())
        fleet.__enter__()
        stage = cls(folder=folder, servers=servers, cameras=cameras, rtsp=rtsp, fleet=fleet)
        try:
            fleet.prepare({camera.name: (camera.region, rtsp.url(camera.name)) for camera in cameras}, partitions=4)
            stage.heal()
            fleet.enroll()
        except BaseException:
            stage.close()
            raise
        return stage

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        self.fleet.__exit__(None, None, None)
        self.rtsp.__exit__(None, None, None)
        for proxy in self.proxies.values():
            proxy.close()
        self.servers.remove()

    def heal(self) -> None:
        """Bring everything back that a test left broken, and wait until the cameras are watched."""
        for proxy in self.proxies.values():
            proxy.heal()
        self.servers.start(DEFAULT_KINDS)
        self.fleet.launch()
        planned = self.fleet.planned()
        for name in [name for name in self.fleet.members if name not in planned]:
            self.fleet.remove(name)
        deadline = time.monotonic() + 40
        while not all(self.rtsp.clients.values()):
            if time.monotonic() > deadline:
                raise UnavailableError(f"cameras that nobody watches: {[name for name, n in self.rtsp.clients.items() if not n]}")
            time.sleep(0.2)

    def play(self, *events: Event) -> Showing:
        """Play the scene with its events, and wait until all frames are accounted for; the first event is the fault that is timed."""
        self.heal()
        time.sleep(CALM_S)
        began_s = self.rtsp.play()
        watch = _Follow(self, began_s, events[0][0] if events else None)
        for at_s, act in events:
            time.sleep(max(0.0, began_s + at_s - time.time()))
            act()
        time.sleep(max(0.0, began_s + DURATION_S + 1.0 - time.time()))
        over_s = time.monotonic()
        account = self.fleet.account(began_s, wait_s=DRAIN_S)
        drained_s = time.monotonic() - over_s
        seen = self._settled(began_s)
        alerts = Counter(
            (row["camera"], row["subject"]) for row in read_rows(self.database, self.folder / "fleet" / "data", _ALERTS, began_s, WATCHLIST)
        )
        return Showing(
            began_s=began_s,
            found=findings(self.cameras, seen, began_s),
            seen=seen,
            account=account,
            alerts=alerts,
            recovered_s=watch.stop(),
            drained_s=drained_s,
        )

    @contextmanager
    def behind_proxies(self) -> Iterator[None]:
        """Let every process of the fleet reach each server through a proxy inside the block."""
        port = self.servers.port
        targets = {"kafka": port("kafka", "proxied_port"), "rabbitmq": port("rabbitmq"), "postgres": port("postgres")}
        listens = {"kafka": port("kafka", "proxy_port")}  # the only address that Kafka tells its clients to come back to
        self.proxies = {name: TcpProxy("127.0.0.1", target, port=listens.get(name, 0)) for name, target in targets.items()}
        direct = self.servers.env()
        through = {
            "SIGHTLINE_LOG_URL": f"kafka://127.0.0.1:{self.proxies['kafka'].port}",
            "SIGHTLINE_BROKER_URL": direct["SIGHTLINE_BROKER_URL"].replace(f":{targets['rabbitmq']}", f":{self.proxies['rabbitmq'].port}"),
            "SIGHTLINE_DATABASE_URL": direct["SIGHTLINE_DATABASE_URL"].replace(
                f":{targets['postgres']}", f":{self.proxies['postgres'].port}"
            ),
        }
        try:
            self.fleet.restart(through)
            yield
        finally:
            self.fleet.restart(direct)
            for proxy in self.proxies.values():
                proxy.close()
            self.proxies = {}

    @property
    def database(self) -> str:
        """The database's own URL, past any proxy."""
        return self.servers.url("postgres")

    @property
    def expected(self) -> set[Finding]:
        """What a right fleet finds."""
        return expected(self.cameras)

    def _settled(self, began_s: float) -> list[Seen]:
        """Return the sightings once they do not change any more."""
        before: list[Seen] = []
        for _ in range(20):
            seen = read_seen(self.database, self.folder / "fleet" / "data", began_s)
            if seen and seen == before:
                break
            before = seen
            time.sleep(1.0)
        return before


class _Follow:
    """Watches in the database how soon each camera with a visitor is followed again after a fault."""

    def __init__(self, stage: Stage, began_s: float, fault_at_s: float | None) -> None:
        self._stage, self._fault_s = stage, None if fault_at_s is None else began_s + fault_at_s
        self._present = {
            camera.name
            for camera in stage.cameras
            if fault_at_s is not None and any(visit.starts_s < fault_at_s < visit.ends_s - 4 for visit in camera.visits)
        }
        self._over = threading.Event()
        self._recovered_s: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        if self._fault_s is not None:
            self._thread.start()

    def stop(self) -> float | None:
        self._over.set()
        if self._fault_s is not None:
            self._thread.join()
        return self._recovered_s

    def _run(self) -> None:
        fault_s = self._fault_s or 0.0
        self._over.wait(max(0.0, fault_s - time.time()))
        waiting = set(self._present)
        while waiting and not self._over.is_set():
            self._over.wait(FOLLOW_POLL_S)
            try:
                rows = read_rows(self._stage.database, self._stage.folder / "fleet" / "data", _NEWEST, fault_s)
            except UnavailableError:
                continue
            waiting -= {row["camera"] for row in rows if row["last_s"] > fault_s + 0.3}
            if not waiting:
                self._recovered_s = time.time() - fault_s
