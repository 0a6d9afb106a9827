"""``sightline evaluate`` on the shipped portraits: always there, so always measured."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app

PEOPLE = files("cli") / "assets" / "people"


@pytest.fixture
def material(tmp_path: Path) -> Path:
    """Two people enrolled by a flat file each, three probes of them, two strangers, and a file that is no photo."""
    for folder, names in {
        "gallery": ("enrol/barack-obama-2009", "enrol/joe-biden-2010"),
        "probes": ("figures/barack-obama-2010", "figures/barack-obama-2012", "figures/joe-biden-2010"),
        "strangers": ("figures/eileen-collins", "figures/grace-hopper"),
    }.items():
        for name in names:
            person, _, year = name.partition("/")[2].rpartition("-") if folder != "strangers" else (name.partition("/")[2], "", "1")
            target = tmp_path / folder / person / f"{year}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(PEOPLE.joinpath(f"{name}.jpg")), target)
    (tmp_path / "probes" / "joe-biden" / "broken.jpg").write_bytes(b"no photo")
    return tmp_path


def evaluate(material: Path, *args: str) -> dict:
    result = CliRunner().invoke(app, ["--data", str(material / "data"), "evaluate", *args, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_identification_names_the_enrolled_and_not_the_strangers(material: Path) -> None:
    plot = material / "det.png"
    folders = [f"--{name}={material / name}" for name in ("gallery", "probes", "strangers")]
    report = evaluate(material, *folders, f"--plot={plot}")
    assert (report["model"], report["enrolled"], report["probes"], report["failures_to_acquire"]) == ("fr_feature", 2, 4, 1)
    assert report["failures"][0]["file"] == "joe-biden/broken.jpg"
    assert report["rank1"] == 1
    assert report["in_use"]["tpir"]["value"] == 1
    assert report["in_use"]["fpir"]["value"] == 0
    assert set(report["tpir"]) == {"0.01", "0.001"}
    assert report["tpir_measured"] == {"0.01": False, "0.001": False}
    assert set(report["time_ms"]) == {"decode", "detect", "embed", "match"}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_without_strangers_the_report_says_leave_one_out(material: Path) -> None:
    report = evaluate(material, f"--gallery={material / 'gallery'}", f"--probes={material / 'probes'}")
    assert report["strangers"] == "leave-one-out"
    assert report["in_use"]["fpir"]["value"] == 0


def test_verification_of_pairs(material: Path) -> None:
    pairs = material / "pairs.csv"
    pairs.write_text(
        "file_x,file_y,Decision\n"
        "gallery/barack-obama/2009.jpg,probes/barack-obama/2012.jpg,Yes\n"
        "gallery/joe-biden/2010.jpg,probes/joe-biden/2010.jpg,Yes\n"
        "gallery/joe-biden/2010.jpg,strangers/grace-hopper/1.jpg,No\n"
        "gallery/joe-biden/2010.jpg,nobody.jpg,No\n"
    )
    report = evaluate(material, f"--pairs={pairs}", f"--images={material}")
    assert (report["pairs"], report["skipped_pairs"], report["failures_to_acquire"]) == (3, 1, 1)
    assert report["accuracy"] == report["auc"] == report["tar"]["0.01"]["value"] == 1
    assert report["calibrated"]["0.001"]["far"]["value"] == 0
