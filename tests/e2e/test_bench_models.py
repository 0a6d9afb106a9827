"""The benchmarks of detection and embedding run and name the figures they promise. No times are asserted."""

import json

import pytest
from typer.testing import CliRunner

from cli.main import app


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bench", "promised"),
    [
        ("detect", {"detect_per_frame", "detect_per_frame_1080p", "faces_per_frame"}),
        ("embed", {"embed_per_face", "align_per_face", "quality_per_face"}),
    ],
)
def test_json_has_hardware_settings_and_the_promised_figures(bench: str, promised: set[str], tmp_path, capfdbinary):
    result = CliRunner().invoke(app, ["--data", str(tmp_path), "bench", bench, "--repeats", "5", "--json"], catch_exceptions=False)
    report = json.loads(capfdbinary.readouterr().out or result.stdout_bytes)
    assert result.exit_code == 0
    assert report["bench"] == bench
    assert report["hardware"]["cores_usable"] >= 1
    assert promised <= set(report["figures"])
    assert all(set(figure) == {"value", "unit"} and figure["value"] > 0 for figure in report["figures"].values())
