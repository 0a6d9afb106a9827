"""``sightline identify`` as a person uses it: painted footage and pictures in, a line per sighting out."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.demo.footage import ensure_footage
from cli.demo.script import CAMERAS

ROOT = Path(__file__).parents[2]
PEOPLE = ROOT / "cli" / "assets" / "people"
KEYS = {"source", "sighting_id", "subject", "name", "score", "threshold", "first_s", "last_s", "best_s", "box", "faces", "path"}


def sightline(data: Path, *args: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    command = [sys.executable, "-m", "cli.main", "--data", str(data), *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identify") / "data"
    code, lines, err = sightline(folder, "enroll", PEOPLE / "enrol", "--json")
    assert code == 0, err
    assert lines[-1]["enrolled"] == 2
    return folder


def test_footage_names_the_enrolled_and_nobody_else(data: Path, tmp_path: Path) -> None:
    script = CAMERAS[0].until(13.0)
    clip = ensure_footage(tmp_path, [script], duration_s=13.0)[script.camera]
    code, lines, err = sightline(data, "identify", clip, "--json")
    assert code == 0, err
    assert all(line.keys() >= KEYS for line in lines)
    assert {line["subject"] for line in lines} == {"barack-obama-2009", None}
    named = [line for line in lines if line["subject"]]
    assert all(line["score"] >= line["threshold"] for line in named)
    for line in lines:
        times = [point[0] for point in line["path"]]
        assert line["first_s"] == times[0] <= line["best_s"] <= line["last_s"] <= 13.0
        assert times == sorted(times)


def test_what_a_file_is_is_told_from_its_content(data: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.mp4").write_bytes((PEOPLE / "enrol" / "joe-biden-2010.jpg").read_bytes())
    (tmp_path / "empty.jpg").write_bytes(b"")
    code, lines, err = sightline(data, "identify", tmp_path / "photo.mp4", tmp_path / "empty.jpg", tmp_path / "absent.mp4", "--json")
    assert [line.get("subject") for line in lines] == ["joe-biden-2010", None, None]
    assert [line.get("error", {}).get("code") for line in lines] == [None, "unreadable_media", "not_found"]
    assert code == 5
    assert len(err.strip().splitlines()) == 2
