"""The demo as a person starts it: real processes, real H.264, embedded PostgreSQL, names in the end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = "13"  # two visits a camera: one known person, one stranger, both standing
LIMIT_S = 110


def start(data_dir: Path, *options: str) -> subprocess.Popen[str]:
    """Start ``sightline demo --json`` on its own data folder and any free port."""
    command = [sys.executable, "-c", "from cli.main import main; main()", "--data", str(data_dir), "demo", "--json", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def events(data_dir: Path) -> list[dict[str, Any]]:
    """Everything that one showing with --once said; its exit code must be 0."""
    demo = start(data_dir, "--once", "--seconds", SECONDS, "--port", "0")
    out, err = demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 0, f"exit {demo.returncode}\n{out[-2000:]}\n{err[-2000:]}"
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def summary(events: list[dict[str, Any]]) -> dict[str, Any]:
    assert events[-1]["event"] == "summary"
    return events[-1]


def test_known_people_are_named_and_strangers_are_not(summary: dict[str, Any]) -> None:
    found = {(finding["camera"], finding["person"]): (finding["verdict"], finding["names"]) for finding in summary["findings"]}
    assert found == {
        ("lobby", "Barack Obama"): ("named", ["Barack Obama"]),
        ("lobby", "Eileen Collins"): ("left unnamed", []),
        ("gate", "Joe Biden"): ("named", ["Joe Biden"]),
        ("gate", "Grace Hopper"): ("left unnamed", []),
    }
    assert summary["stray_names"] == []
    assert summary["right"] is True


def test_no_sighting_ever_named_a_stranger(events: list[dict[str, Any]]) -> None:
    names = {event["sighting"]["name"] for event in events if event["event"] == "sighting" and event["sighting"]["outcome"] == "subject"}
    assert names == {"Barack Obama", "Joe Biden"}


def test_every_published_frame_is_accounted_for(summary: dict[str, Any]) -> None:
    for account in summary["accounts"]:
        assert account["decoded"] == 130
        assert account["published"] > 20
        assert account["published"] == account["finished"]
        assert account["dead_lettered"] == 0


def test_sightings_appear_while_the_footage_plays(events: list[dict[str, Any]]) -> None:
    kinds = [event["event"] for event in events]
    assert kinds.index("ready") < kinds.index("sighting") < len(kinds) - 1
    assert events[kinds.index("ready")]["people"] == ["Barack Obama", "Joe Biden"]
    open_first = next(event["sighting"] for event in events if event["event"] == "sighting")
    assert open_first["closed"] is False


@pytest.fixture
def looping(data_dir: Path, events: list[dict[str, Any]]) -> Iterator[subprocess.Popen[str]]:
    """A demo that plays on; the footage of ``events`` is there already."""
    demo = start(data_dir, "--seconds", SECONDS, "--port", "0")
    yield demo
    if demo.poll() is None:
        os.killpg(demo.pid, signal.SIGKILL)
    demo.communicate()


def test_the_first_start_told_one_key(events: list[dict[str, Any]]) -> None:
    (told,) = [event for event in events if event["event"] == "admin_key"]
    assert re.fullmatch(r"sl_[A-Za-z0-9]{12}_[A-Za-z0-9_-]{43}", told["key"])


def test_a_second_start_serves_the_api_and_ends_cleanly_on_ctrl_c(looping: subprocess.Popen[str], events: list[dict[str, Any]]) -> None:
    (key,) = [event["key"] for event in events if event["event"] == "admin_key"]
    assert looping.stdout is not None
    url = ""
    for line in looping.stdout:
        event = json.loads(line)
        assert "painting" not in event.get("what", "")
        assert event["event"] != "admin_key"
        url = event.get("url", url)
        if event["event"] == "sighting" and event["sighting"]["outcome"] == "subject":
            break
    request = urllib.request.Request(f"{url}/v1/sightings?limit=1", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["sightings"]
    looping.send_signal(signal.SIGINT)
    _, err = looping.communicate(timeout=30)
    assert looping.returncode == 0, err[-2000:]
    assert "Traceback" not in err


def test_a_taken_port_is_one_clear_line(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        demo = start(data_dir, "--once", "--port", str(port))
        out, err = demo.communicate(timeout=30)
    assert demo.returncode == 8
    assert out == ""
    taken = f"127.0.0.1:{port} can't be listened on (Address already in use)"
    assert err.strip() == f"sightline: demo: {taken}; choose another port with --port, or any with --port 0"
