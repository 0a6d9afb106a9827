"""The benchmark of the matcher at a small size, and what every benchmark prints."""

import json

import numpy as np
import pytest

from cli.bench.match import measure
from cli.bench.people import IMPOSTOR_SIGMA, generate_people
from cli.bench.report import emit_report, format_value, hardware


def test_every_figure_is_there_and_makes_sense() -> None:
    figures = measure(references=4500, dimensions=32, probes=64, seed=1)
    assert figures["match_rank1_agreement"] == (1.0, "ratio")
    assert figures["match_stranger_rank1_agreement"] == (1.0, "ratio")
    assert figures["match_batch64_agreement"] == (1.0, "ratio")
    assert figures["rescored_per_probe"][0] >= 5
    assert figures["deleted_but_found"] == (0.0, "references")
    assert {name for name, (value, _) in figures.items() if value <= 0} == {"deleted_but_found"}
    names = {"match_single_p50", "match_single_p99", "match_batch64_per_probe", "flat_single_p50", "flat_batch64_per_probe"}
    assert names | {"speedup_single", "speedup_batch", "bytes_per_reference", "build_s"} <= set(figures)


def test_generated_people_spread_like_real_ones() -> None:
    people = generate_people(references=1500, dimensions=512, probes=300, rng=np.random.default_rng(0))
    assert people.references.shape == (1500, 512)
    np.testing.assert_allclose(np.linalg.norm(people.references, axis=1), 1.0, atol=1e-4)
    cosines = people.strangers @ people.references.T
    assert cosines.std() == pytest.approx(IMPOSTOR_SIGMA, rel=0.1)
    assert abs(cosines.mean()) < 0.01
    assert (people.probes @ people.references.T).max(axis=1).mean() == pytest.approx(0.68, abs=0.04)


def test_json_is_one_object_with_hardware_settings_and_figures(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    emit_report("demo", settings={"size": 3}, figures={"p50": (0.5, "ms")}, as_json=True)
    report = json.loads(capsysbinary.readouterr().out)
    assert report["bench"] == "demo"
    assert report["settings"] == {"size": 3}
    assert report["figures"] == {"p50": {"value": 0.5, "unit": "ms"}}
    assert report["hardware"] == json.loads(json.dumps(hardware()))


def test_the_table_names_each_figure_with_its_unit(capsys: pytest.CaptureFixture[str]) -> None:
    emit_report("demo", settings={"size": 3}, figures={"p50": (0.51239, "ms"), "gallery": (100_000, "references")}, as_json=False)
    text = capsys.readouterr().out
    for part in ("bench demo", "p50", "0.5124", "ms", "100,000", "size 3"):
        assert part in text


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (0.00123456, "0.001235"), (12345.6, "12,346")])
def test_figures_are_written_for_people(value: float, text: str) -> None:
    assert format_value(value) == text


def test_hardware_says_what_machine_this_is() -> None:
    machine = hardware()
    assert {"cpu", "cores_physical", "cores_logical", "cores_usable", "cpu_flags", "memory_gib", "python", "os", "gpu"} == set(machine)
    assert machine["cores_usable"] >= 1
