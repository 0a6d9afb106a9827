"""Capture times from clocks that are right, wrong and absent."""

import numpy as np
import pytest

from ingest.timestamps import FAULTS_LIMIT, LAG_S, CaptureClock

START_S = 1_700_000_000.0


def test_jitter_of_the_network_is_taken_out() -> None:
    rng, clock, captured = np.random.default_rng(0), CaptureClock(), []
    for number in range(200):
        stamp = clock.stamp(50.0 + number * 0.04, START_S + number * 0.04 + 0.05 + float(rng.uniform(0.0, 0.1)))
        assert stamp.fault is None
        captured.append(stamp.captured_s)
    assert np.abs(np.diff(captured[20:]) - 0.04).max() < 0.02
    assert abs(captured[-1] - (START_S + 199 * 0.04 + 0.05)) < 0.02


def test_a_burst_after_a_stall_keeps_its_own_times() -> None:
    clock = CaptureClock()
    for number in range(50):
        clock.stamp(number * 0.04, START_S + number * 0.04)
    stalled = [clock.stamp((50 + number) * 0.04, START_S + 5.0 + number * 0.001) for number in range(25)]
    assert all(stamp.fault is None for stamp in stalled)
    assert stalled[10].captured_s == pytest.approx(START_S + 2.4, abs=0.05)


def test_missing_timestamps_become_arrival_times() -> None:
    stamp = CaptureClock().stamp(None, START_S)
    assert (stamp.captured_s, stamp.fault) == (START_S, "missing")


@pytest.mark.parametrize(
    ("pts_s", "fault"),
    [(3.9, "backward"), (4.0, "backward"), (95443.7, "jump"), (-20.0, "backward")],
)
def test_one_impossible_timestamp_is_a_fault_and_the_clock_goes_on(pts_s: float, fault: str) -> None:
    clock = CaptureClock()
    for number in range(101):
        clock.stamp(number * 0.04, START_S + number * 0.04)
    stamp = clock.stamp(pts_s, START_S + 4.04)
    assert stamp.fault == fault
    assert stamp.captured_s == pytest.approx(START_S + 4.04)
    after = clock.stamp(pts_s + 0.04, START_S + 4.08)
    assert after.fault is None
    assert after.captured_s == pytest.approx(START_S + 4.08, abs=0.001)


def test_a_stopped_clock_is_no_longer_asked() -> None:
    clock = CaptureClock()
    faults = [clock.stamp(7.0, START_S + number * 0.04).fault for number in range(FAULTS_LIMIT + 5)]
    assert clock.lying
    assert faults[-1] is None
    assert clock.stamp(7.0, START_S + 100.0).captured_s == START_S + 100.0


def test_a_clock_at_half_speed_never_lags_more_than_its_limit() -> None:
    clock = CaptureClock()
    for number in range(4000):
        arrival_s = START_S + number * 0.04
        stamp = clock.stamp(number * 0.02, arrival_s)
        assert arrival_s - stamp.captured_s <= LAG_S


def test_a_clock_at_double_speed_never_runs_ahead() -> None:
    clock = CaptureClock()
    for number in range(1000):
        arrival_s = START_S + number * 0.04
        assert clock.stamp(number * 0.08, arrival_s).captured_s <= arrival_s + 1e-3


def test_an_untrusted_clock_is_never_asked() -> None:
    clock = CaptureClock(trusted=False)
    assert [clock.stamp(number * 9.0, START_S + number).captured_s for number in range(3)] == [START_S, START_S + 1, START_S + 2]
    assert clock.stamp(None, START_S + 3).fault is None


def test_this_machines_clock_set_back_is_followed() -> None:
    clock = CaptureClock(trusted=False)
    clock.stamp(None, START_S)
    assert clock.stamp(None, START_S - 3600.0).captured_s == START_S - 3600.0
