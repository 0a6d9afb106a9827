"""``sightline services`` as people and scripts call it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.settings import child_environment


def sightline(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "services", *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=child_environment(**settings),
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def folder(tmp_path: Path):
    yield tmp_path / "services"
    sightline("stop", "--dir", str(tmp_path / "services"))


@pytest.mark.slow
def test_services_start_status_stop(folder: Path) -> None:
    where = ("--only", "postgres", "--dir", str(folder))
    first, second = sightline("start", *where), sightline("start", *where)
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert first.stdout.startswith("export SIGHTLINE_DATABASE_URL=postgresql://sightline@127.0.0.1:")
    assert sightline("status", *where, "--env").stdout == first.stdout
    assert json.loads(sightline("status", *where, "--json").stdout)["state"] == "ready"
    assert json.loads(sightline("stop", "--dir", str(folder), "--json").stdout) == {"stopped": ["postgres"]}
    stopped = sightline("status", *where, "--json")
    assert (stopped.returncode, json.loads(stopped.stdout)["state"]) == (8, "stopped")


def test_services_given_urls_are_checked_and_never_started(folder: Path) -> None:
    done = sightline("start", "--only", "rabbitmq", "--dir", str(folder), SIGHTLINE_BROKER_URL="amqp://me:secret@127.0.0.1:9/%2F")
    assert done.returncode == 8
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "sightline: services: rabbitmq: nothing answers at 127.0.0.1:9: Connection refused"
    assert "secret" not in done.stderr
    assert not folder.exists()


def test_services_unknown_server(folder: Path) -> None:
    done = sightline("start", "--only", "redis", "--dir", str(folder))
    assert done.returncode == 2
    assert done.stderr.strip() == ("sightline: --only redis: unknown server redis; choose from postgres, kafka, rabbitmq, prometheus")
