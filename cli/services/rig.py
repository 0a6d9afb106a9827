"""A fleet under a steady load: cameras that play the scene again and again, and what that does to latency, CPU and memory."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from cli.services.fleet import Fleet, Plan, until
from cli.services.install import cache_dir
from cli.services.latency import LatencyWatch, Sample
from cli.services.local import LocalServers
from cli.services.member import Samples, total
from cli.services.model import DEFAULT_KINDS
from cli.services.rtsp import RtspServer
from cli.services.scene import BUSY, FPS, REGIONS, scene_cameras, scene_clips
from core.errors import UnavailableError

BENCH_SETTINGS: dict[str, str] = {
    "SIGHTLINE_MODELS__THREADS": "1",
    "SIGHTLINE_MODELS__DETECTOR_SIDE_PX": "320",
}
"""One core for the models, and faces of 66 px in 480x270 are found at 320x180 as well."""
KEEPS_UP = 0.95
FEW_FRAMES = 4.0  # are always on their way
WATCHED_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one number of cameras did to the fleet, over a stretch of time."""

    cameras: int
    seconds: float
    samples: Sequence[Sample]
    decoded: float
    published: float
    finished: float
    dropped: float
    lag: float
    """Frames that waited for a recognizer at the end."""
    cpu_cores: Mapping[str, float]
    """By kind of process."""

    @property
    def latencies_ms(self) -> list[float]:
        """Of each decision."""
        return [sample.latency_ms for sample in self.samples]

    @property
    def appearances_ms(self) -> list[float]:
        """Of each sighting: from its first frame, whether or not that was enough, to its first message."""
        return [(sample.seen_s - sample.appeared_s) * 1e3 for sample in self.samples if sample.appeared_s is not None]

    @property
    def sustained(self) -> bool:
        """Whether it could go on like this: nothing dropped, decoding and recognizing keep up, less than a second of frames waits."""
        decoding = self.decoded >= KEEPS_UP * self.cameras * FPS * self.seconds
        recognizing = self.finished >= KEEPS_UP * self.published and self.lag <= max(FEW_FRAMES, self.published / self.seconds)
        return self.dropped == 0 and decoding and recognizing


class Rig:
    """Servers, cameras and a fleet for benches. Use as a context manager. Thread rule: one thread."""

    def __init__(self, folder: Path, *, most_cameras: int) -> None:
        self.servers = LocalServers(folder / "services")
        self._folder = folder
        self._scene = scene_cameras(8, BUSY)
        self._names = [f"cam-{index:03d}" for index in range(most_cameras)]
        self.cameras = 0
        self.fleet = Fleet(folder=folder / "fleet", settings={}, plan=Plan(ingesters=1, regions=(), shards=2))
        self._rtsp: RtspServer | None = None
        self._watch: LatencyWatch | None = None
        self._opened = ExitStack()

    def __enter__(self) -> "Rig":
        with ExitStack() as opening:  # what was opened is closed again where a later step fails
            opening.callback(self.servers.remove)
            self.servers.start(DEFAULT_KINDS)
            clips = scene_clips(cache_dir() / "scene", self._scene)
            by_name = {name: clips[self._scene[index % len(self._scene)].name] for index, name in enumerate(self._names)}
            self._rtsp = opening.enter_context(RtspServer(by_name, loop=True))
            self.fleet.settings = {**self.servers.env(), **BENCH_SETTINGS}
            opening.enter_context(self.fleet)
            self._launch()
            self._watch = opening.enter_context(LatencyWatch(self.servers.url("postgres"), self._folder / "fleet" / "data"))
            self._opened = opening.pop_all()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._opened.close()

    def _launch(self) -> None:
        """Make topics, start every process and enrol the scene's people."""
        self.fleet.prepare({})
        for region in REGIONS:
            self.fleet.run("topics", "ensure", "--region", region, "--cameras", str(len(self._names)))
        self.fleet.launch()
        self.fleet.add("recognize-0", "recognize")
        self.fleet.await_ready()
        self.fleet.enroll()

    def set_cameras(self, count: int) -> None:
        """Run so many cameras, and wait until all are watched."""
        if self._rtsp is None:
            raise UnavailableError("the rig is not set up")
        self.fleet.place_cameras({name: (REGIONS[index % 2], self._rtsp.url(name)) for index, name in enumerate(self._names[:count])})
        self.cameras = count
        deadline = time.monotonic() + WATCHED_TIMEOUT_S
        while sum(clients > 0 for clients in self._rtsp.clients.values()) != count:
            if time.monotonic() > deadline:
                raise UnavailableError(f"only {sum(self._rtsp.clients.values())} of {count} cameras are watched")
            time.sleep(0.2)

    def settle(self) -> None:
        """Wait until what an earlier load left behind is worked off. Raises UnavailableError when this load does not let it."""
        until(lambda: self.lag() <= FEW_FRAMES, SETTLE_TIMEOUT_S, f"{self.cameras} cameras: the recognizers catch up")

    def measure(self, seconds: float) -> Load:
        """Watch the load for so long."""
        before, cpu_before, began_s = self._counts(), self._cpu_s(), time.time()
        time.sleep(seconds)
        after, cpu_after, ended_s = self._counts(), self._cpu_s(), time.time()
        elapsed_s = ended_s - began_s
        return Load(
            cameras=self.cameras,
            seconds=elapsed_s,
            samples=self._watch.between(began_s, ended_s) if self._watch else [],
            decoded=after["decoded"] - before["decoded"],
            published=after["published"] - before["published"],
            finished=after["finished"] - before["finished"],
            dropped=after["dropped"] - before["dropped"],
            lag=after["published"] - after["finished"],
            cpu_cores={kind: (cpu_after[kind] - cpu_before.get(kind, 0.0)) / elapsed_s for kind in cpu_after},
        )

    def memory_bytes(self) -> dict[str, int]:
        """Return the resident memory of each of our processes."""
        return {member.name: member.memory_bytes() for member in self.fleet.members.values() if member.running}

    def reconnects(self) -> float:
        """Return how often cameras, brokers and logs were connected anew so far, over all processes."""
        names = ("sightline_broker_connections_lost_total", "sightline_ingest_reconnects_total", "sightline_log_reconnects_total")
        return sum(total(samples, name) for samples in self.fleet.scrape().values() for name in names)

    def lag(self) -> float:
        """Return how many published frames are not finished."""
        counts = self._counts()
        return counts["published"] - counts["finished"]

    def _counts(self) -> dict[str, float]:
        scraped: dict[str, Samples] = self.fleet.scrape()
        names = {
            "decoded": "sightline_ingest_frames_decoded_total",
            "published": "sightline_ingest_frames_published_total",
            "dropped": "sightline_ingest_frames_dropped_total",
            "finished": "sightline_recognize_frames_finished_total",
        }
        return {key: sum(total(samples, name) for samples in scraped.values()) for key, name in names.items()}

    def _cpu_s(self) -> dict[str, float]:
        """Return CPU seconds by kind: our processes, the servers, and this one (which simulates the cameras)."""
        used: dict[str, float] = {}
        for member in self.fleet.members.values():
            kind = member.name.partition("-")[0]
            used[kind] = used.get(kind, 0.0) + member.cpu_s()
        for server in DEFAULT_KINDS:
            used[server] = sum(_family_cpu_s(pid) for pid in self.servers.pids(server))
        times = psutil.Process().cpu_times()
        used["simulated cameras"] = times.user + times.system
        return used


def _family_cpu_s(pid: int) -> float:
    """Return the CPU time of a process and its children, dead ones included."""
    process = psutil.Process(pid)
    seconds = 0.0
    for member in (process, *process.children(recursive=True)):
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
        if member == process:
            seconds += times.children_user + times.children_system
    return seconds
