"""The labelled film clip and the clips of strangers, scored by the data's own tool. Self-contained sibling: tests/e2e/test_identify.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
DATA = SHARED / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason=f"NOT MEASURED: the development data is absent ({DATA})"),
    pytest.mark.timeout(300),
]
CLIPS = ("face-demographics-walking-and-pause.gif", "head-pose-face-detection-female-and-male.gif", "classroom.gif")


def run(data: Path, *args: str | Path) -> str:
    command = [sys.executable, "-m", "cli.main", "--data", str(data), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280).stdout


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("hamilton") / "data"
    photos = [path for path in sorted((DATA / "hamilton").iterdir()) if path.suffix in (".png", ".jpg")]
    run(data, "enroll", *photos, "--json")
    return data


def test_the_film_clip_names_at_least_18_of_19_clear_faces_and_no_stranger(gallery: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.jsonl"
    seen.write_text(run(gallery, "identify", DATA / "hamilton" / "short_hamilton_clip.mp4", "--json"))
    scores = tmp_path / "scores.json"
    tool = [sys.executable, SHARED / "tools" / "score_sightings.py", seen, "--truth", DATA / "truth", "--json", scores]
    subprocess.run(tool, check=True, capture_output=True)
    score = json.loads(scores.read_text())["short_hamilton_clip.mp4"]
    assert score["clear_identified"] >= 18
    assert score["strangers_named"] == 0
    assert score["false_named_sightings"] == 0


def test_nobody_is_named_where_everybody_is_a_stranger(gallery: Path) -> None:
    lines = [json.loads(line) for line in run(gallery, "identify", *(DATA / "clips" / clip for clip in CLIPS), "--json").splitlines()]
    assert {line["source"] for line in lines} == set(CLIPS)
    assert [line for line in lines if line["subject"]] == []
