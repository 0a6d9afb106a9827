"""Scores become thresholds and rates, and a model without a table is refused in one clear line."""

import pytest

from core.errors import ModelError
from core.models.spec import CalibrationPoint, CalibrationSpec, InputSpec, ModelSpec, ProbeKind
from embed.calibration import SMALLEST_GALLERY, Calibration

SINGLE = {1e-1: 0.1, 1e-2: 0.3, 1e-3: 0.4, 1e-4: 0.44, 1e-5: 0.48}
TRACK = {1e-1: 0.2, 1e-2: 0.36, 1e-3: 0.46, 1e-4: 0.5, 1e-5: 0.54}


def table(kind: ProbeKind, scores: dict[float, float]) -> CalibrationSpec:
    points = tuple(CalibrationPoint(far=far, score=score, measured=far > 1e-4) for far, score in scores.items())
    return CalibrationSpec(kind=kind, points=points, source="made up", comparisons=1000)


def embedder(*tables: CalibrationSpec) -> ModelSpec:
    return ModelSpec(
        name="toy",
        task="embedder",
        architecture="embedder",
        file="toy.onnx",
        sha256="0" * 64,
        shipped=False,
        licence="CC0",
        commercial_use=True,
        provenance="-",
        training_data="-",
        input=InputSpec(tensor="x", colour="rgb", mean=0, scale=1),
        calibration=tables,
    )


@pytest.fixture
def calibration() -> Calibration:
    return Calibration.of(embedder(table("single", SINGLE), table("track", TRACK)))


def test_threshold_is_the_score_at_target_fpir_divided_by_references(calibration: Calibration) -> None:
    assert calibration.threshold(kind="single", fpir=0.01, gallery_size=10) == pytest.approx(0.4, abs=0.001)
    assert calibration.threshold(kind="single", fpir=0.01, gallery_size=100) == pytest.approx(0.44, abs=0.001)
    assert calibration.threshold(kind="track", fpir=0.01, gallery_size=100) == pytest.approx(0.5, abs=0.001)


def test_small_galleries_count_as_ten_references(calibration: Calibration) -> None:
    floor = calibration.threshold(kind="single", fpir=0.01, gallery_size=SMALLEST_GALLERY)
    assert {calibration.threshold(kind="single", fpir=0.01, gallery_size=n) for n in (0, 1, 3, 9)} == {floor}


def test_tail_goes_on_at_the_last_slope_of_the_table(calibration: Calibration) -> None:
    assert calibration.threshold(kind="single", fpir=0.01, gallery_size=100_000) == pytest.approx(0.48 + 2 * 0.04, abs=0.001)


def test_scores_stay_within_a_cosine_and_rates_within_one(calibration: Calibration) -> None:
    assert calibration.threshold(kind="single", fpir=1e-12, gallery_size=10**9) == 1.0
    assert calibration.fpir(-1.0, kind="single", gallery_size=1) == 1.0
    assert 0.0 <= calibration.fpir(1.0, kind="single", gallery_size=1) < 1e-5


def test_rates_out_of_range_are_refused(calibration: Calibration) -> None:
    with pytest.raises(ValueError, match="expected 0 < fpir < 1, got 0"):
        calibration.threshold(kind="single", fpir=0, gallery_size=1)
    with pytest.raises(ValueError, match="expected 0 or more references, got -1"):
        calibration.fpir(0.5, kind="single", gallery_size=-1)


def test_model_without_tables_is_refused_and_says_how_to_calibrate() -> None:
    with pytest.raises(ModelError, match=r"toy has no calibration for single and track probes.*sightline evaluate --calibrate"):
        Calibration.of(embedder())
    with pytest.raises(ModelError, match="no calibration for track probes"):
        Calibration.of(embedder(table("single", SINGLE)))


@pytest.mark.parametrize("scores", [{1e-2: 0.3}, {1e-2: 0.4, 1e-3: 0.3}, {1e-2: 0.4, 1e-3: 0.4}])
def test_table_that_does_not_rise_is_refused(scores: dict[float, float]) -> None:
    with pytest.raises(ModelError, match="toy: calibration for single probes needs two or more points"):
        Calibration.of(embedder(table("single", scores), table("track", TRACK)))
