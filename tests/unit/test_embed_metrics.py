"""Rates of hand-made scores, counted by hand."""

import numpy as np
import pytest
from scipy import stats

from embed.metrics import (
    accept_rate_at,
    area_under_roc,
    best_accuracy,
    can_measure,
    cumulative_match,
    equal_error_rate,
    error_curve,
    open_set,
    rank_one,
    rate,
    threshold_at,
)
from embed.tail import exponential_tail, fit_tails, pareto_tail

GENUINE = np.array([0.9, 0.8, 0.7, 0.4])
IMPOSTOR = np.array([0.5, 0.3, 0.2, 0.1, 0.0])


def test_error_rates_at_every_threshold() -> None:
    curve = error_curve(GENUINE, IMPOSTOR)
    at = {round(float(t), 3): i for i, t in enumerate(curve.thresholds[:-1])}
    assert (curve.false_accepts[0], curve.false_rejects[0]) == (1, 0)
    assert (curve.false_accepts[-1], curve.false_rejects[-1]) == (0, 1)
    assert curve.false_accepts[at[0.5]] == pytest.approx(0.2)
    assert curve.false_rejects[at[0.5]] == pytest.approx(0.25)


def test_area_is_the_share_of_won_comparisons() -> None:
    assert area_under_roc(GENUINE, IMPOSTOR) == pytest.approx(19 / 20)
    assert area_under_roc(np.array([0.5]), np.array([0.5])) == 0.5


def test_equal_error_rate_lies_where_the_rates_cross() -> None:
    assert equal_error_rate(error_curve(np.array([0.9, 0.8]), np.array([0.1, 0.2]))) == 0
    assert equal_error_rate(error_curve(np.array([0.4, 0.8]), np.array([0.1, 0.6]))) == pytest.approx(0.5)


def test_best_accuracy_counts_both_kinds() -> None:
    accuracy, threshold = best_accuracy(error_curve(GENUINE, IMPOSTOR), 4, 5)
    assert accuracy == pytest.approx(8 / 9)
    assert threshold in (pytest.approx(0.4), pytest.approx(0.7))


def test_threshold_lets_no_more_than_the_rate_through() -> None:
    strangers = np.arange(100) / 100
    assert (strangers >= threshold_at(0.01, strangers)).sum() == 1
    assert (strangers >= threshold_at(0.001, strangers)).sum() == 0
    assert threshold_at(1.0, strangers) == -1


def test_equal_scores_are_let_through_together_or_not_at_all() -> None:
    assert (np.array([0.5, 0.5, 0.1, 0.1]) >= threshold_at(0.25, np.array([0.5, 0.5, 0.1, 0.1]))).sum() == 0


def test_accept_rate_at_a_false_accept_rate() -> None:
    threshold, tar = accept_rate_at(0.2, GENUINE, IMPOSTOR)
    assert threshold == pytest.approx(0.3)
    assert tar.value == 1
    assert accept_rate_at(0.1, GENUINE, IMPOSTOR)[1].value == pytest.approx(0.75)


def test_exact_interval() -> None:
    nine_of_ten = rate(9, 10)
    assert (nine_of_ten.low, nine_of_ten.high) == (pytest.approx(0.5550, abs=1e-4), pytest.approx(0.9975, abs=1e-4))
    assert (rate(5, 5).high, rate(0, 5).low) == (1, 0)
    with pytest.raises(ValueError, match="got 3 of 2"):
        rate(3, 2)


def test_identification_needs_the_right_name_above_the_strangers() -> None:
    strangers = np.linspace(0.0, 0.4, 100)
    point = open_set(0.01, top=np.array([0.9, 0.8, 0.39]), correct=np.array([True, False, True]), strangers=strangers)
    assert point.measured
    assert point.tpir.value == pytest.approx(1 / 3)
    assert rank_one(np.array([True, False, True])).value == pytest.approx(2 / 3)


def test_rate_below_what_the_strangers_can_show_is_extrapolated_and_says_so() -> None:
    strangers = np.random.default_rng(1).exponential(0.05, 100)
    point = open_set(0.001, top=np.array([0.9]), correct=np.array([True]), strangers=strangers)
    assert not point.measured
    assert point.threshold > strangers.max()
    assert can_measure(0.01, 100)
    assert not can_measure(0.01, 99)


def test_cumulative_match_counts_ranks_up_to() -> None:
    assert cumulative_match(np.array([1, 2, 0, 1]), 3) == [0.5, 0.75, 0.75]


def test_tails_of_known_distributions_are_found_again() -> None:
    rng = np.random.default_rng(7)
    exponential = rng.exponential(0.05, 50_000)
    assert exponential_tail(exponential, 1e-5) == pytest.approx(0.05 * np.log(1e5), rel=0.06)
    bounded = stats.genpareto.rvs(-0.2, scale=0.1, size=50_000, random_state=rng)
    (score,) = pareto_tail(bounded, [1e-5])
    assert score == pytest.approx(stats.genpareto.isf(1e-5, -0.2, scale=0.1), rel=0.06)


def test_rates_with_few_counted_errors_have_no_empirical_score() -> None:
    fits = fit_tails(np.random.default_rng(3).normal(0, 0.1, 10_000), [1e-2, 1e-4])
    assert fits[0].empirical == pytest.approx(0.2326, abs=0.01)
    assert fits[1].empirical is None
    assert fits[1].normal == pytest.approx(0.3719, abs=0.015)
    with pytest.raises(ValueError, match="expected at least 2, got 1"):
        exponential_tail(np.array([0.1]), 0.5)
