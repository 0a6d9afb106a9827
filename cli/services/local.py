"""Real servers as processes of this machine, kept in one folder: started once, found again, restarted on the same ports."""

import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import msgspec
import structlog

from cli.services.install import locked
from cli.services.kafka import KafkaServer
from cli.services.model import DEFAULT_KINDS, Kind, LocalServer
from cli.services.postgres import PostgresServer
from cli.services.processes import Spawned, alive, end, free_ports, spawn
from cli.services.prometheus import PrometheusServer
from cli.services.rabbitmq import RabbitServer
from core.errors import UnavailableError

STOP_TIMEOUT_S = 30.0
READY_POLL_S = 0.1

_log = structlog.get_logger(__name__)


class _State(msgspec.Struct, frozen=True):
    """What is remembered of a server between commands."""

    ports: dict[str, int]
    processes: tuple[Spawned, ...] = ()
    version: str = ""


class LocalServers:
    """The servers of one folder. Use as a context manager to stop them all at the end.

    Thread rule: any thread, any number of processes; a file lock per server orders them.
    """

    def __init__(self, folder: Path, *, scrape: Path | None = None) -> None:
        self._folder = folder.resolve()
        servers: tuple[LocalServer, ...] = (PostgresServer(), KafkaServer(), RabbitServer(), PrometheusServer(scrape))
        self._servers: dict[Kind, LocalServer] = {server.kind: server for server in servers}
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "LocalServers":
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.stop()

    def start(self, kinds: Kind | Iterable[Kind] = DEFAULT_KINDS) -> None:
        """Start servers and return when all are ready; one that runs already is left alone.

        Raises:
            UnavailableError: naming each that does not start, with the reason.
        """
        failures = [f"{kind}: {problem}" for kind, problem in self.try_start(kinds).items() if problem]
        if failures:
            raise UnavailableError("; ".join(failures))

    def fetch(self, kinds: Iterable[Kind]) -> dict[Kind, str]:
        """Install the programs of servers; return why for each that can't be had."""
        problems: dict[Kind, str] = {}
        for kind in kinds:
            try:
                self._servers[kind].fetch()
            except UnavailableError as err:
                problems[kind] = str(err)
        return problems

    def try_start(self, kinds: Kind | Iterable[Kind] = DEFAULT_KINDS) -> dict[Kind, str]:
        """Start servers side by side; return for each why it did not start, or ""."""
        wanted = _listed(kinds)
        with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
            return dict(zip(wanted, pool.map(self._try_start, wanted), strict=True))

    def stop(self, kinds: Kind | Iterable[Kind] | None = None, *, kill: bool = False) -> None:
        """Stop servers (default: all), in good order or with SIGKILL to every process; their data and ports stay."""
        wanted = list(self._servers) if kinds is None else _listed(kinds)
        with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
            list(pool.map(lambda kind: self._stop(kind, kill=kill), wanted))

    def url(self, kind: Kind) -> str:
        """Return where a server is, running or not. Raises UnavailableError if it was never started."""
        return next(iter(self._environment(kind).values()))

    def port(self, kind: Kind, name: str = "port") -> int:
        """Return a port of a server: RabbitMQ also has ``management_port`` and ``metrics_port``."""
        return self._known(kind).ports[name]

    def version(self, kind: Kind) -> str:
        """Return the version that a server had when it was last started."""
        return self._known(kind).version

    def pids(self, kind: Kind) -> list[int]:
        """Return the processes of a server that run."""
        state = self._read(kind)
        return [process.pid for process in state.processes if alive(process)] if state else []

    def env(self) -> dict[str, str]:
        """Return the settings that lead to the servers of this folder, as environment variables."""
        return {key: value for kind in self._servers if self._read(kind) for key, value in self._environment(kind).items()}

    def status(self) -> dict[Kind, str]:
        """Return for each server ever started here "" when it answers, else what is wrong."""
        return {kind: self._problem(kind) for kind in self._servers if self._read(kind)}

    def remove(self) -> None:
        """Stop all servers and delete their data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _environment(self, kind: Kind) -> dict[str, str]:
        return self._servers[kind].environment(self._known(kind).ports)

    def _problem(self, kind: Kind) -> str:
        state = self._known(kind)
        if not all(alive(process) for process in state.processes) or not state.processes:
            return "stopped"
        try:
            self._servers[kind].version(state.ports)
        except UnavailableError as err:
            return str(err)
        return ""

    def _try_start(self, kind: Kind) -> str:
        try:
            (self._folder / kind).mkdir(parents=True, exist_ok=True)
            with locked(self._folder / f"{kind}.lock"):
                self._start(kind)
        except UnavailableError as err:
            return str(err)
        except OSError as err:
            return f"{err.strerror or err}: {err.filename or self._folder}"
        return ""

    def _start(self, kind: Kind) -> None:
        server, folder = self._servers[kind], self._folder / kind
        state = self._read(kind) or _State(ports={})
        if state.processes and not self._problem(kind):
            return
        lacking = [name for name in server.ports if name not in state.ports]
        ports = {**state.ports, **dict(zip(lacking, free_ports(len(lacking)), strict=True))}
        state = _State(ports=ports, processes=state.processes)
        self._end(state, kill=True)  # what is left of a start that was killed
        commands = server.prepare(folder, state.ports)
        log = folder / "server.log"
        processes: list[Spawned] = []
        for command in commands:
            spawned, child = spawn(command, log)
            self._children[spawned.pid] = child
            processes.append(spawned)
            state = _State(ports=state.ports, processes=tuple(processes))
            self._write(kind, state)
        version = self._await_ready(server, state, log)
        self._write(kind, _State(ports=state.ports, processes=state.processes, version=version))
        _log.debug("server ready", server=kind, version=version)

    def _await_ready(self, server: LocalServer, state: _State, log: Path) -> str:
        deadline = time.monotonic() + server.start_timeout_s
        problem = ""
        while time.monotonic() < deadline:
            try:
                return server.version(state.ports)
            except UnavailableError as err:
                problem = str(err)
            dead = next((process for process in state.processes if alive(process) is None), None)
            if dead:
                self._end(state, kill=True)
                raise UnavailableError(f"{dead.name} ended at once: {_last_words(log)} (more in {log})")
            time.sleep(READY_POLL_S)
        self._end(state, kill=True)
        raise UnavailableError(f"not ready after {server.start_timeout_s:.0f} s: {problem}; {_last_words(log)} (more in {log})")

    def _stop(self, kind: Kind, *, kill: bool) -> None:
        state = self._read(kind)
        if state is None:
            return
        with locked(self._folder / f"{kind}.lock"):
            state = self._known(kind)
            self._end(state, kill=kill)
            self._write(kind, _State(ports=state.ports, version=state.version))

    def _end(self, state: _State, *, kill: bool) -> None:
        for process in reversed(state.processes):
            end(process, kill=kill, timeout_s=STOP_TIMEOUT_S)
            child = self._children.pop(process.pid, None)
            if child is not None:
                child.poll()

    def _known(self, kind: Kind) -> _State:
        state = self._read(kind)
        if state is None:
            raise UnavailableError(f"{kind} was never started in {self._folder}; start it: sightline services start --only {kind}")
        return state

    def _read(self, kind: Kind) -> _State | None:
        try:
            return msgspec.json.decode((self._folder / f"{kind}.json").read_bytes(), type=_State)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write(self, kind: Kind, state: _State) -> None:
        fresh = self._folder / f"{kind}.json.new"
        fresh.write_bytes(msgspec.json.encode(state))
        fresh.replace(self._folder / f"{kind}.json")


def _listed(kinds: Kind | Iterable[Kind]) -> list[Kind]:
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _last_words(log: Path) -> str:
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    telling = [line for line in lines[-40:] if any(word in line for word in ("FATAL", "ERROR", "error", "Exception"))]
    return (telling or lines or ["it left no message"])[-1]
