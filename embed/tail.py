"""The upper tail of impostor scores, and how far it reaches beyond what was measured. Pure.

A rate of 1e-5 can't be counted in a few ten thousand comparisons. Three models of the tail are fitted to the highest scores and compared:

- normal: median and the distance to the 84.1 % score, as if the whole bulk were a normal distribution;
- exponential: the excess over a high score u is exponential (a generalised Pareto distribution of shape 0);
- Pareto: the excess over u follows a generalised Pareto distribution (Pickands 1975, Balkema and de Haan 1974), whose shape says whether
  the tail ends (below 0), is exponential (0) or heavy (above 0). Cosines are bounded: measured shapes are -0.2 to 0.04.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = NDArray[np.floating[Any]]
TAIL_SHARE = 0.05
"""The highest 5 % of the scores are the tail: enough to fit two parameters, high enough that the bulk has no say."""
FEWEST_IN_TAIL = 10
"""Fewer exceedances than this say nothing about a slope."""
COUNTED_ERRORS = 10
"""A rate is read off the scores themselves where at least this many errors were counted (relative error about a third)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TailFits:
    """The score at one FAR after each model."""

    far: float
    empirical: float | None
    """None where fewer than COUNTED_ERRORS comparisons reach it."""
    normal: float
    exponential: float
    pareto: float


def exponential_tail(scores: Scores, far: float) -> float:
    """Return the score that a share ``far`` of scores (N,) like these reaches, from an exponential fit of the highest ones."""
    tail, start, share = _tail(scores)
    if far >= share:
        return float(np.quantile(scores, 1 - far))
    return start + float(tail.mean()) * float(np.log(share / far))


def pareto_tail(scores: Scores, fars: Sequence[float]) -> list[float]:
    """Return the scores that shares ``fars`` of scores (N,) like these reach, from a generalised Pareto fit of the highest ones."""
    tail, start, share = _tail(scores)
    shape, spread = _pareto(tail)
    return [
        float(np.quantile(scores, 1 - far)) if far >= share else start + float(stats.genpareto.isf(far / share, shape, 0, spread))
        for far in fars
    ]


def fit_tails(scores: Scores, fars: Sequence[float]) -> list[TailFits]:
    """Return what each model says at each FAR for impostor scores (N,)."""
    middle = float(np.median(scores))
    spread = float(np.quantile(scores, stats.norm.cdf(1))) - middle
    return [
        TailFits(
            far=far,
            empirical=float(np.quantile(scores, 1 - far)) if far * len(scores) >= COUNTED_ERRORS else None,
            normal=middle + spread * float(stats.norm.isf(far)),
            exponential=exponential_tail(scores, far),
            pareto=pareto,
        )
        for far, pareto in zip(fars, pareto_tail(scores, fars), strict=True)
    ]


def _tail(scores: Scores) -> tuple[Scores, float, float]:
    """Return the excesses over the tail's start, that start, and the tail's share of all scores."""
    count = min(len(scores) - 1, max(FEWEST_IN_TAIL, int(TAIL_SHARE * len(scores))))
    if count < 1:
        raise ValueError(f"scores: expected at least 2, got {len(scores)}")
    ordered = np.sort(scores)[::-1]
    start = float(ordered[count])
    return ordered[:count] - start, start, count / len(scores)


def _pareto(excess: Scores) -> tuple[float, float]:
    """Return shape and spread of a generalised Pareto distribution by probability-weighted moments.

    Source: Hosking and Wallis, "Parameter and quantile estimation for the generalized Pareto distribution", Technometrics 1987; closed
    form, and for a few hundred exceedances steadier than maximum likelihood.
    """
    ordered = np.sort(excess)
    count = len(ordered)
    mean = float(ordered.mean())
    weighted = float((ordered * (1 - (np.arange(1, count + 1) - 0.35) / count)).mean())
    if mean <= 2 * weighted:  # all alike: no spread to speak of
        return 0.0, max(mean, 1e-9)
    shape = 2 - mean / (mean - 2 * weighted)
    return float(np.clip(shape, -0.5, 0.5)), 2 * mean * weighted / (mean - 2 * weighted)
