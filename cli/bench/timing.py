"""Measuring how long something takes."""

import time
from collections.abc import Callable

import numpy as np

WARM_UP_RUNS = 3
"""Runs before the clock starts: the first ones plan memory and fill caches."""


def timed_ms(work: Callable[[], object], *, repeats: int) -> list[float]:
    """Run ``work`` and return each run's wall time in ms, after some runs that do not count."""
    for _ in range(min(WARM_UP_RUNS, repeats)):
        work()
    return [once_ms(work) for _ in range(repeats)]


def once_ms(work: Callable[[], object]) -> float:
    """Run ``work`` once and return its wall time in ms."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def median(values: list[float]) -> float:
    """Return the median."""
    return float(np.median(values))
