"""A whole fleet on this machine: real servers, every kind of process by its command, people enrolled, simulated cameras added."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from importlib.resources import files
from pathlib import Path
from types import TracebackType

import msgspec

from cli.demo.script import KNOWN
from cli.services.member import Member, Samples
from core.adapters.postgres import open_database
from core.errors import UnavailableError
from core.secrets import open_secret_box
from core.settings import child_environment
from ingest.cameras import CameraSpec, CameraStore

COMMAND_TIMEOUT_S = 180.0
POLL_S = 0.5
WATCHLIST = "wanted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which processes a fleet has."""

    ingesters: int = 2
    regions: tuple[str, ...] = ("north", "south")
    recognizers: int = 1
    """For each region."""
    shards: int = 2
    replicas: int = 1
    """Of each shard."""
    sightings: int = 1


class CameraAccount(msgspec.Struct, frozen=True):
    """What ``sightline audit frames --json`` says of one camera."""

    camera: str
    published: int
    finished: int
    dead_lettered: int
    in_flight: int
    lost: int
    duplicates: int
    balance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of all frames."""

    cameras: tuple[CameraAccount, ...]
    balanced: bool
    """As the audit itself says: nothing lost, nothing expired, every camera adds up."""

    def total(self, name: str) -> int:
        """Return a count over all cameras."""
        return sum(getattr(camera, name) for camera in self.cameras)


@dataclass(slots=True)
class Fleet:
    """The processes of one fleet. Use as a context manager: leaving kills what still runs. Thread rule: one thread."""

    folder: Path
    settings: Mapping[str, str]
    """Environment variables: the servers' URLs, and what else is set."""
    plan: Plan = field(default_factory=Plan)
    members: dict[str, Member] = field(default_factory=dict)

    def __enter__(self) -> "Fleet":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        for member in self.members.values():
            member.kill()

    def environment(self) -> dict[str, str]:
        """Return the settings of the processes. All share one data folder: the key of the cameras' credentials lies there."""
        return {"SIGHTLINE_DATA_DIR": str(self.folder / "data"), "SIGHTLINE_METRICS__PORT": "0", **self.settings}

    def run(self, *words: str, expect: Iterable[int] = (0,)) -> list[dict[str, object]]:
        """Run a ``sightline`` command to its end and return its JSON lines. Raises UnavailableError with its last words."""
        command = [sys.executable, "-m", "cli.main", *words, "--json"]
        environment = child_environment(SIGHTLINE_DATA_DIR=str(self.folder / "data"), **self.settings)
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=COMMAND_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode not in tuple(expect):
            said = (done.stderr.strip() or "no message").splitlines()[-1]
            raise UnavailableError(f"sightline {' '.join(words)} ended with {done.returncode}: {said}")
        return [msgspec.json.decode(line) for line in done.stdout.splitlines() if line.strip()]

    def prepare(self, cameras: Mapping[str, tuple[str, str]], *, partitions: int | None = None) -> None:
        """Add cameras and make the topics for them.

        Args:
            cameras: name -> (region, URL).
            partitions: of each frames topic; None = from the number of cameras.
        """
        self.place_cameras(cameras)
        self.run("topics", "ensure", *(() if partitions is None else ("--partitions", str(partitions))))

    def enroll(self) -> None:
        """Enrol the known people of the scene and watch for them; the matchers must run."""
        photos = self.folder / "photos"
        photos.mkdir(exist_ok=True)
        shipped = resources.files("cli").joinpath("assets/people/enrol")
        for known in KNOWN:
            (photos / f"{known.name}.jpg").write_bytes(shipped.joinpath(f"{known.photo}.jpg").read_bytes())
        self.run("enroll", str(photos))
        shutil.rmtree(photos)
        self.run("watchlists", "add", WATCHLIST)
        self.run("watchlists", "put", WATCHLIST, *(known.name for known in KNOWN))

    def place_cameras(self, cameras: Mapping[str, tuple[str, str]]) -> None:
        """Make these, name -> (region, URL), the cameras that there are; running ingesters follow."""
        asyncio.run(_place_cameras(self.settings["SIGHTLINE_DATABASE_URL"], self.folder / "data", cameras))

    def add(self, name: str, *words: str) -> Member:
        """Start one more process; ``await_ready`` waits for it."""
        member = Member(name, [*words, "--json"], settings=self.environment(), folder=self.folder)
        self.members[name] = member
        member.start()
        return member

    def remove(self, name: str) -> None:
        """Drain a process and forget it."""
        self.members.pop(name).terminate()

    def launch(self) -> None:
        """Start every process of the plan and wait until all are ready."""
        for name, words in self.planned().items():
            if name not in self.members:
                self.add(name, *words)
            else:
                self.members[name].start()
        for member in self.members.values():
            if member.running:
                member.await_ready()

    def restart(self, settings: Mapping[str, str]) -> None:
        """Drain every process and start it again with changed settings."""
        for member in self.members.values():
            member.terminate()
        for member in self.members.values():
            member.start(**settings)
        self.await_ready()

    def planned(self) -> dict[str, Sequence[str]]:
        """Return the processes of the plan: name -> command."""
        plan = self.plan
        made: dict[str, Sequence[str]] = {}
        for shard in range(plan.shards):
            for replica in range(plan.replicas):
                name = f"match-{shard}of{plan.shards}-{replica}"
                made[name] = ["match", "--shard", str(shard), "--shards", str(plan.shards), "--replica", name]
        for number in range(plan.sightings):
            made[f"sightings-{number}"] = ["sightings"]
        for region in plan.regions:
            for number in range(plan.recognizers):
                made[f"recognize-{region}-{number}"] = ["recognize", "--region", region]
        for number in range(plan.ingesters):
            made[f"ingest-{number}"] = ["ingest", "--name", f"ingest-{number}"]
        return made

    def await_ready(self) -> None:
        """Wait until every process is ready."""
        for member in self.members.values():
            member.await_ready()

    def of_kind(self, kind: str) -> list[Member]:
        """Return the members of a kind (``ingest``, ``recognize``, ``match``, ``sightings``) that run."""
        return [member for name, member in self.members.items() if name.startswith(f"{kind}-") and member.running]

    def scrape(self, kind: str = "") -> dict[str, Samples]:
        """Return the metrics of each running member of a kind; "" = of all."""
        chosen = self.of_kind(kind) if kind else [member for member in self.members.values() if member.running]
        return {member.name: member.scrape() for member in chosen}

    def account(self, since_s: float, *, wait_s: float = 0.0) -> Account:
        """Return what became of the frames published since a time, after waiting for those in flight."""
        since = datetime.fromtimestamp(since_s, UTC).isoformat()
        lines = self.run("audit", "frames", "--since", since, "--wait", str(wait_s), expect=(0, 1))
        cameras = tuple(msgspec.convert(line, CameraAccount) for line in lines if "camera" in line)
        return Account(cameras=cameras, balanced=any(line.get("balanced") is True for line in lines))


async def _place_cameras(url: str, data_dir: Path, cameras: Mapping[str, tuple[str, str]]) -> None:
    async with open_database(url, data_dir=data_dir, migrations=files("deploy") / "migrations") as db:
        store = CameraStore(db, open_secret_box(data_dir))
        there = {record.spec.name for record in await store.list()}
        for name in there - set(cameras):
            await store.remove(name)
        for name, (region, address) in cameras.items():
            if name not in there:
                await store.add(CameraSpec(name=name, url=address, region=region))


def until(question: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Ask until the answer is yes; return how long that took, in seconds. Raises UnavailableError."""
    began_s = time.monotonic()
    while not question():
        if time.monotonic() - began_s > timeout_s:
            raise UnavailableError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(POLL_S)
    return time.monotonic() - began_s
