"""What holds for all scores."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from embed.metrics import area_under_roc, equal_error_rate, error_curve, open_set, rate, threshold_at

SCORES = arrays(np.float64, st.integers(2, 40), elements=st.floats(-1, 1, width=32))


@given(SCORES, SCORES)
def test_rates_are_monotone_and_bounded(genuine, impostor):
    curve = error_curve(genuine, impostor)
    assert (np.diff(curve.false_accepts) <= 0).all()
    assert (np.diff(curve.false_rejects) >= 0).all()
    assert 0 <= equal_error_rate(curve) <= 1


@given(SCORES, SCORES)
def test_area_of_swapped_roles_is_the_complement(genuine, impostor):
    assert abs(area_under_roc(genuine, impostor) + area_under_roc(impostor, genuine) - 1) < 1e-9


@given(SCORES, st.floats(0, 1))
def test_threshold_keeps_its_promise(impostor, far):
    assert (impostor >= threshold_at(far, impostor)).mean() <= far + 1e-9


@given(SCORES, SCORES, st.floats(0.0001, 0.5), st.floats(0.0001, 0.5))
def test_fewer_false_positives_never_identify_more(top, strangers, one, other):
    correct = np.ones(len(top), bool)
    low, high = sorted([one, other])
    strict = open_set(low, top=top, correct=correct, strangers=strangers)
    lax = open_set(high, top=top, correct=correct, strangers=strangers)
    assert (strangers >= strict.threshold).mean() <= low + 1e-9
    if lax.measured == strict.measured:
        assert strict.tpir.value <= lax.tpir.value


@given(st.integers(1, 500), st.data())
def test_interval_holds_its_value(trials, data):
    hits = data.draw(st.integers(0, trials))
    interval = rate(hits, trials)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
