"""kill -9 in the middle of an import: what was reported as enrolled is there, and the next run goes on from it."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "cli" / "assets" / "people" / "enrol" / "barack-obama-2009.jpg"
SIGHTLINE = [sys.executable, "-c", "from cli.main import main; main()"]


@pytest.mark.timeout(300)
def test_killed_import_keeps_what_it_reported_and_goes_on(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = cv2.imread(str(PHOTO))
    for number in range(30):  # one person under thirty names, which --allow-lookalike permits
        cv2.imwrite(str(photos / f"p{number:02d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 60 + number])
    command = [*SIGHTLINE, "--data", tmp_path / "data", "enroll", photos, "--allow-lookalike", "--json"]

    reported: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            reported.append(json.loads(line)["file"])
            if len(reported) == 11:
                process.kill()
                break
    assert len(reported) == 11

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    status = {line["file"]: line["status"] for line in lines[:-1]}
    assert {status[file] for file in reported} == {"unchanged"}
    assert lines[-1]["unchanged"] + lines[-1]["enrolled"] == 30
    assert lines[-1]["unchanged"] <= 11 + 8  # at most the photos between the kill's line and its arrival
