"""Real-time playing and retries."""

import numpy as np
import pytest

from ingest.pacing import BACKOFF_FIRST_S, BACKOFF_LIMIT_S, Pacer, backoff_s


def test_backoff_doubles_to_its_limit_with_jitter() -> None:
    rng = np.random.default_rng(0)
    for attempt in range(40):
        longest = min(BACKOFF_FIRST_S * 2**attempt, BACKOFF_LIMIT_S)
        waits = [backoff_s(attempt, rng) for _ in range(50)]
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 40


def test_an_hour_is_played_without_drift() -> None:
    pacer, now_s = Pacer(), 1000.0
    for number in range(25 * 3600):
        due_s = pacer.due_s(number / 25, now_s)
        now_s = max(now_s, due_s) + 0.003
    assert due_s == pytest.approx(1000.0 + (25 * 3600 - 1) / 25)
    assert pacer.late == 0


def test_a_loop_goes_on_one_frame_later() -> None:
    pacer = Pacer()
    first = [pacer.due_s(number / 10, 1000.0) for number in range(5)]
    pacer.restart()
    second = [pacer.due_s(number / 10, 1000.5) for number in range(5)]
    assert np.diff(first + second) == pytest.approx(0.1)


def test_a_machine_that_is_too_slow_moves_the_clock_instead_of_piling_up() -> None:
    pacer, now_s = Pacer(), 1000.0
    for number in range(100):
        due_s = pacer.due_s(number / 25, now_s)
        assert now_s - due_s <= 1.0
        now_s = max(now_s, due_s) + 0.2
    assert pacer.late > 0


@pytest.mark.parametrize("pts", [[None] * 5, [0.0, 0.0, 0.0, 0.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
def test_due_times_grow_whatever_the_file_says(pts: list[float | None]) -> None:
    pacer = Pacer()
    due = [pacer.due_s(pts_s, 1000.0) for pts_s in pts]
    assert np.diff(due) == pytest.approx(0.04)
