"""One process of a fleet, run by its command: started, watched, killed, started again."""

import contextlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec
import psutil

from core.errors import UnavailableError
from core.settings import child_environment

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
SCRAPE_TIMEOUT_S = 3.0
POLL_S = 0.05

Samples = dict[str, float]
"""Metric with its labels, as Prometheus writes it -> value."""


class _Line(msgspec.Struct, frozen=True):
    """What of a process's output is of interest."""

    event: str = ""
    metrics_port: int | None = None


class Member:
    """A ``sightline`` command as a process of its own. Thread rule: one thread."""

    def __init__(self, name: str, words: Sequence[str], *, settings: Mapping[str, str], folder: Path) -> None:
        """Compose a member that does not run yet.

        Args:
            name: of the member, for people and file names.
            words: the command behind ``sightline``, with ``--json``.
            settings: environment variables.
            folder: for its output.
        """
        self.name = name
        self._words = list(words)
        self._settings = dict(settings)
        self._out = folder / f"{name}.out"
        self._log = folder / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self.starts = 0

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._child is not None and self._child.poll() is None

    @property
    def metrics_port(self) -> int:
        """Where it answers a scrape. Raises UnavailableError before it is ready."""
        if self._port is None:
            raise UnavailableError(f"{self.name} has no metrics port")
        return self._port

    def start(self, **settings: str) -> None:
        """Start the process; given settings are kept for later starts. ``await_ready`` waits for it."""
        if self.running:
            return
        self._settings |= settings
        self._port = None
        self.starts += 1
        command = [sys.executable, "-m", "cli.main", *self._words]
        with self._out.open("wb") as out, self._log.open("ab") as log:
            self._child = _spawn(command, out, log, child_environment(**self._settings))

    def await_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the process says that it is ready. Raises UnavailableError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            line = self._ready_line()
            if line is not None:
                self._port = line.metrics_port
                return
            if not self.running:
                raise UnavailableError(f"{self.name} ended: {self.last_words()}")
            time.sleep(POLL_S)
        raise UnavailableError(f"{self.name} is not ready after {timeout_s:.0f} s: {self.last_words()}")

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, and wait until it has drained; return the exit status (-9 if it had to be killed)."""
        return self._signal(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: alive, but silent."""
        self._process().suspend()

    def resume(self) -> None:
        """SIGCONT."""
        self._process().resume()

    def memory_bytes(self) -> int:
        """Return the resident memory."""
        return int(self._process().memory_info().rss)

    def cpu_s(self) -> float:
        """Return the CPU time used so far, user and system."""
        times = self._process().cpu_times()
        return float(times.user + times.system)

    def scrape(self) -> Samples:
        """Return the process's metrics. Raises UnavailableError."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=SCRAPE_TIMEOUT_S) as answer:
                return parse_samples(answer.read().decode())
        except (urllib.error.URLError, OSError) as err:
            raise UnavailableError(f"{self.name} does not answer a scrape: {err}") from err

    def last_words(self) -> str:
        """Return the last line of its log."""
        with contextlib.suppress(OSError):
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return "it left no message"

    def _process(self) -> psutil.Process:
        if self._child is None:
            raise UnavailableError(f"{self.name} was not started")
        return psutil.Process(self._child.pid)

    def _ready_line(self) -> _Line | None:
        for text in self._out.read_bytes().splitlines(keepends=True):
            if text.endswith(b"\n"):
                with contextlib.suppress(msgspec.DecodeError):
                    line = msgspec.json.decode(text, type=_Line)
                    if line.event == "ready":
                        return line
        return None

    def _signal(self, number: signal.Signals) -> int:
        if self._child is None:
            return 0
        if self.running:
            self._child.send_signal(number)
        try:
            return self._child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait(STOP_TIMEOUT_S)


def parse_samples(text: str) -> Samples:
    """Return the samples of a Prometheus exposition."""
    samples: Samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.rpartition(" ")
            samples[key] = float(value)
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum over all samples of a metric that carry these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(value for key, value in samples.items() if key.partition("{")[0] == name and all(label in key for label in wanted))


def _spawn(command: Sequence[str], out: IO[bytes], log: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment, start_new_session=True)
