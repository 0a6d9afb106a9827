"""enroll, search and subjects as people and programs use them: the real command, models and database."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PEOPLE = ROOT / "cli" / "assets" / "people"
SIGHTLINE = [sys.executable, "-c", "from cli.main import main; main()"]


def sightline(data: Path, *args: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    """Run a command; return exit code, JSON lines of stdout, stderr."""
    done = subprocess.run([*SIGHTLINE, "--data", data, *args], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "Grace Hopper").mkdir(parents=True)
    shutil.copy(PEOPLE / "figures" / "grace-hopper.jpg", folder / "Grace Hopper" / "1.jpg")
    shutil.copy(PEOPLE / "enrol" / "barack-obama-2009.jpg", folder / "obama.jpg")
    (folder / "notes.txt").write_text("not a photo")
    return folder


@pytest.mark.timeout(300)
def test_from_photos_to_candidates_to_erasure(tmp_path: Path, photos: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "report.json"
    code, lines, _ = sightline(data, "enroll", photos, "--json", "--report", report, "--consent-purpose", "door", "--expires", "90d")
    assert code == 0
    assert [(line["file"], line["subject"], line["status"], line["reason"]) for line in lines[:-1]] == [
        ("Grace Hopper/1.jpg", "Grace Hopper", "enrolled", None),
        ("notes.txt", "notes", "rejected", "unsupported"),
        ("obama.jpg", "obama", "enrolled", None),
    ]
    assert all(0.3 < line["quality"] <= 1 for line in (lines[0], lines[2]))
    summary = lines[-1]
    assert (summary["summary"], summary["files"], summary["enrolled"], summary["unchanged"], summary["rejected"]) == (True, 3, 2, 0, 1)
    written = json.loads(report.read_text())
    assert (written["enrolled"], len(written["photos"])) == (2, 3)

    code, lines, _ = sightline(data, "enroll", photos, "--json")
    assert code == 0
    assert (lines[-1]["enrolled"], lines[-1]["unchanged"], lines[-1]["rejected"]) == (0, 2, 1)

    code, lines, _ = sightline(data, "search", PEOPLE / "figures" / "barack-obama-2012.jpg", "--json", "-k", "2")
    assert code == 0
    (face,) = lines
    assert (face["source"], face["face"]) == ("barack-obama-2012.jpg", 0)
    assert [(c["subject"], c["rank"], c["match"]) for c in face["candidates"]] == [("obama", 1, True), ("Grace Hopper", 2, False)]
    assert face["candidates"][0]["score"] >= face["threshold"] > face["candidates"][1]["score"]
    assert face["candidates"][0]["fpir"] < 0.01 < face["candidates"][1]["fpir"]

    code, lines, _ = sightline(data, "subjects", "rename", "obama", "Barack Obama", "--json")
    assert (code, lines[0]["subject"]) == (0, "Barack Obama")
    code, lines, _ = sightline(data, "subjects", "list", "--json")
    assert [(line["subject"], line["references"], line["consent"]["purpose"]) for line in lines] == [
        ("Barack Obama", 1, "door"),
        ("Grace Hopper", 1, "door"),
    ]
    code, lines, _ = sightline(data, "subjects", "references", "Barack Obama", "--json")
    assert [line["source"] for line in lines] == ["obama.jpg"]
    code, lines, _ = sightline(data, "subjects", "erase", "Barack Obama", "--yes", "--json")
    assert (code, lines[0]["references"], lines[0]["embeddings"]) == (0, 1, 1)
    code, lines, errors = sightline(data, "subjects", "show", "Barack Obama", "--json")
    assert (code, lines) == (5, [])
    assert errors == "sightline: subject 'Barack Obama': there is none; 'sightline subjects list' shows all\n"


@pytest.mark.timeout(300)
def test_zip_with_one_person_under_two_names(tmp_path: Path) -> None:
    path = tmp_path / "people.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.write(PEOPLE / "enrol" / "barack-obama-2009.jpg", "a/obama.jpg")
        out.write(PEOPLE / "figures" / "barack-obama-2012.jpg", "b/1.jpg")
    code, lines, _ = sightline(tmp_path / "data", "enroll", path, "--json")
    assert code == 0
    assert [(line["file"], line["status"], line["reason"]) for line in lines[:-1]] == [
        ("a/obama.jpg", "enrolled", None),
        ("b/1.jpg", "rejected", "looks_like_another_subject"),
    ]
    assert lines[1]["detail"].startswith("looks like a (0.")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nobody"], 5, "sightline: nobody: no such file or folder"),
        (["{empty}"], 5, "sightline: {empty}: no photos in it"),
        (["{empty}", "--expires", "soon"], 2, "sightline: --expires soon: give a date like 2027-01-31, or days like 90d"),
        (["{empty}", "--collection", "a b"], 2, "sightline: collection 'a b': use 1 to 64 letters, digits, dots, dashes and underscores"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(tmp_path: Path, args: list[str], code: int, words: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    got, lines, errors = sightline(tmp_path / "data", "enroll", *(arg.format(empty=empty) for arg in args), "--json")
    assert (got, lines, errors) == (code, [], words.format(empty=empty) + "\n")


def test_nothing_enrolled_is_exit_code_one(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"hello")
    code, lines, _ = sightline(tmp_path / "data", "enroll", tmp_path / "x.jpg", "--json")
    assert (code, lines[0]["status"], lines[0]["reason"]) == (1, "rejected", "unsupported")
