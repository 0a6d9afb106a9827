"""``sightline api``: the API of a fleet in a process of its own, on a real broker."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from core.settings import child_environment
from tests.builders.running import START_S, TOKEN, free_port

ROOT = Path(__file__).parents[2]


def until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{url}/healthz", timeout=5).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"sightline api does not answer (exit code {process.poll()})")


@pytest.mark.usefixtures("db")
def test_it_answers_without_a_matcher_says_why_it_is_not_ready_and_drains(tmp_path: Path, database_dir: Path, amqp_url: str) -> None:
    port = free_port()
    environment = child_environment(
        SIGHTLINE_API__TOKEN=TOKEN, SIGHTLINE_API__PORT=str(port), SIGHTLINE_BROKER_URL=amqp_url, SIGHTLINE_METRICS__PORT="0"
    )
    command = [sys.executable, "-m", "cli.main", "--data", str(database_dir), "api", "--json"]
    with subprocess.Popen(command, env=environment, cwd=ROOT) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until_up(url, process)
            ready = requests.get(f"{url}/readyz", timeout=5)
            assert ready.status_code == 503
            assert "no matcher is ready" in json.dumps(ready.json())
            who = requests.get(f"{url}/v1/sessions/current", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)
            assert who.json()["role"] == "admin"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
