"""The threshold in use: single faces, tracks by how much they were averaged, and a fixed one."""

import pytest

from core.models.spec import CalibrationPoint, CalibrationSpec
from core.settings import RecognizeSettings
from embed.calibration import Calibration
from recognize.threshold import TRACK_AGREEMENT, ThresholdPolicy
from tests.builders.models import make_embedder_spec


def table(kind: str, low: float) -> CalibrationSpec:
    points = tuple(CalibrationPoint(far=10.0**-n, score=low + 0.05 * n, measured=True) for n in range(1, 6))
    return CalibrationSpec(kind=kind, points=points, source="made up", comparisons=1)  # type: ignore[arg-type]


def policy(threshold: float | None = None) -> ThresholdPolicy:
    spec = make_embedder_spec(calibration=(table("single", 0.2), table("track", 0.3)))
    return ThresholdPolicy(calibration=Calibration.of(spec), settings=RecognizeSettings(threshold=threshold))


def track(references: int, agreement: float, threshold: float | None = None) -> float:
    with_settings = policy(threshold)
    return with_settings.score(with_settings.default, references=references, agreement=agreement)


def test_one_shot_is_a_single_face() -> None:
    assert track(100, 1.0) == policy().single(100)


def test_much_averaging_asks_for_the_tracks_threshold() -> None:
    assert track(100, TRACK_AGREEMENT) == pytest.approx(policy().single(100) + 0.1)
    assert track(100, 0.3) == track(100, TRACK_AGREEMENT)


def test_in_between_it_grows_evenly() -> None:
    half = track(100, (1 + TRACK_AGREEMENT) / 2)
    assert half == pytest.approx(policy().single(100) + 0.05)


def test_more_references_ask_for_more() -> None:
    assert policy().single(10_000) > policy().single(100)


def test_a_fixed_threshold_is_just_that() -> None:
    assert policy(0.5).single(100) == track(10_000, 0.8, 0.5) == 0.5
