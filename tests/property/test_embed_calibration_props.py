"""Whatever the table: thresholds and rates are monotone in both arguments, bounded, and each other's inverse."""

from hypothesis import given
from hypothesis import strategies as st

from core.models.spec import CalibrationPoint, CalibrationSpec, InputSpec, ModelSpec
from embed.calibration import Calibration


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    tables = []
    for kind in ("single", "track"):
        steps = draw(st.lists(st.floats(0.005, 0.15), min_size=5, max_size=5))
        lowest = draw(st.floats(-0.1, 0.2))
        scores = [lowest + sum(steps[1 : n + 1]) for n in range(5)]
        points = tuple(CalibrationPoint(far=10.0 ** -(n + 1), score=score, measured=False) for n, score in enumerate(scores))
        tables.append(CalibrationSpec(kind=kind, points=points, source="drawn", comparisons=1))  # type: ignore[arg-type]
    return Calibration.of(
        ModelSpec(
            name="drawn",
            task="embedder",
            architecture="embedder",
            file="x.onnx",
            sha256="0",
            shipped=False,
            licence="-",
            commercial_use=True,
            provenance="-",
            training_data="-",
            input=InputSpec(tensor="x", colour="rgb", mean=0, scale=1),
            calibration=tuple(tables),
        )
    )


KINDS = st.sampled_from(["single", "track"])
RATES = st.floats(1e-6, 0.5)
SIZES = st.integers(0, 10_000_000)
SCORES = st.floats(-1, 1)


@given(calibrations(), KINDS, RATES, SIZES, RATES, SIZES)
def test_threshold_rises_with_the_gallery_and_falls_with_the_rate(calibration, kind, fpir, size, other_fpir, other_size):
    here = calibration.threshold(kind=kind, fpir=fpir, gallery_size=size)
    assert -1 <= here <= 1
    assert calibration.threshold(kind=kind, fpir=fpir, gallery_size=size + other_size) >= here - 1e-12
    assert calibration.threshold(kind=kind, fpir=max(fpir, other_fpir), gallery_size=size) <= here + 1e-12


@given(calibrations(), KINDS, SCORES, SIZES, SCORES, SIZES)
def test_rate_rises_with_the_gallery_and_falls_with_the_score(calibration, kind, score, size, other_score, other_size):
    here = calibration.fpir(score, kind=kind, gallery_size=size)
    assert 0 <= here <= 1
    assert calibration.fpir(score, kind=kind, gallery_size=size + other_size) >= here
    assert calibration.fpir(max(score, other_score), kind=kind, gallery_size=size) <= here


@given(calibrations(), KINDS, RATES, SIZES)
def test_threshold_and_rate_are_inverse(calibration, kind, fpir, size):
    threshold = calibration.threshold(kind=kind, fpir=fpir, gallery_size=size)
    if -1 < threshold < 1:
        rate = calibration.fpir(threshold, kind=kind, gallery_size=size)
        assert abs(rate - fpir) <= 1e-6 * fpir + 1e-12
