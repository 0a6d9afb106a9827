"""Start, recognise and end the processes of a server. A process is only ever ended after its identity was checked."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import psutil

from cli.services.model import LOOPBACK, Command

PORTS = range(20000, 32000)
"""Below the ports that the kernel gives to outgoing connections: a client that reconnects to a stopped server could otherwise be given
the server's own port, and keep it from coming back."""
SAME_START_S = 1.0
"""Two readings of one process's start time differ by rounding only."""
GONE_POLL_S = 0.02


class Spawned(msgspec.Struct, frozen=True):
    """A process that we started, told from another with the same number by its start time (Unix seconds)."""

    name: str
    pid: int
    created_s: float
    stop_signal: int


def spawn(command: Command, log: Path) -> tuple[Spawned, subprocess.Popen[bytes]]:
    """Start a process in a group of its own, its words going to a file."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            command.args,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(command.environment),
            cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal is for us, not for the server
            **command.run_as,
        )
    created = psutil.Process(child.pid).create_time()
    return Spawned(name=command.name, pid=child.pid, created_s=created, stop_signal=command.stop_signal), child


def alive(spawned: Spawned) -> psutil.Process | None:
    """Return the process if it still runs, and is the one we started."""
    try:
        process = psutil.Process(spawned.pid)
        same = abs(process.create_time() - spawned.created_s) < SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def end(spawned: Spawned, *, kill: bool, timeout_s: float) -> None:
    """End a process with all its descendants: by its stop signal and patience, or at once."""
    process = alive(spawned)
    if process is None:
        return
    family = _family(process)
    if not kill:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(spawned.stop_signal)
        if _gone([process], timeout_s):
            _kill(family)  # helpers that outlive their parent
            return
    _kill([*_family(process), *family])
    _gone(family, timeout_s)


def _family(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return [process]


def _kill(family: Iterable[psutil.Process]) -> None:
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)  # psutil checks that the number is still the same process


def _gone(processes: Iterable[psutil.Process], timeout_s: float) -> bool:
    """Wait until none runs any more; reaps our own children."""
    deadline = time.monotonic() + timeout_s
    while any(_runs(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(GONE_POLL_S)
    return True


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens now."""
    found: list[int] = []
    if not count:
        return found
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError("no free port")
