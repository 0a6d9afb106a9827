"""The platform as a user starts it: ``sightline run`` in a process of its own."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from core.settings import child_environment

TOKEN = "a-token-of-the-settings-0123456789"
START_S = 90.0


@contextmanager
def running(data: Path, **variables: str) -> Iterator[str]:
    """Run the platform inside the block and yield its URL once it is ready; ``variables``: further settings, as environment."""
    environment = child_environment(SIGHTLINE_API__TOKEN=TOKEN, SIGHTLINE_API__PORT=str(free_port()), **variables)
    command = [sys.executable, "-m", "cli.main", "--data", str(data), "run", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            yield _ready(process)
        finally:
            process.terminate()
            process.wait(30)


def _ready(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        started = json.loads(line)
        if started.get("event") == "started":
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline:
                with contextlib.suppress(requests.ConnectionError):
                    if requests.get(started["url"] + "/readyz", timeout=5).status_code == 200:
                        return str(started["url"])
                time.sleep(0.1)
    raise AssertionError("sightline run ended before it was ready")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
