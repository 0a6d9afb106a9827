"""How good recognition is: verification and identification rates after ISO/IEC 19795-1, with intervals. Pure.

A match is score >= threshold. Verification compares two faces: FAR is the share of impostor comparisons (two people) that match, TAR
= 1 - FRR the share of genuine ones (one person). Identification asks a whole gallery: FPIR is the share of strangers' probes whose best
score matches, TPIR the share of enrolled people's probes whose best candidate is right and matches.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from embed.tail import exponential_tail

Scores = NDArray[np.floating[Any]]
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCurve:
    """Error rates at every threshold that makes a difference; ascending thresholds."""

    thresholds: Scores
    false_accepts: Scores
    """Share of impostors (or strangers) at or above the threshold: falls from 1 to 0."""
    false_rejects: Scores
    """Share of genuine scores below the threshold: rises from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSet:
    """Identification at one false-positive rate."""

    threshold: float
    tpir: Rate
    measured: bool
    """False where too few strangers were there to measure this rate and the threshold comes from the tail of their scores."""


def rate(hits: int, trials: int, confidence: float = CONFIDENCE) -> Rate:
    """Return hits / trials with its exact interval.

    Raises:
        ValueError: no trials.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 1934.
    """
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"rate: expected 0 <= hits <= trials and a trial, got {hits} of {trials}")
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return Rate(value=hits / trials, low=low, high=high)


def error_curve(genuine: Scores, impostor: Scores) -> ErrorCurve:
    """Return both error rates over all thresholds (for ROC and DET). Scores (N,) and (M,), any order, both not empty."""
    levels = np.unique(np.concatenate([genuine, impostor]))
    thresholds = np.append(levels, np.nextafter(levels[-1], np.inf))
    return ErrorCurve(
        thresholds=thresholds,
        false_accepts=1 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor),
        false_rejects=np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine),
    )


def area_under_roc(genuine: Scores, impostor: Scores) -> float:
    """Return the chance that a genuine score is above an impostor's (equal scores count half): Mann-Whitney."""
    ranks = stats.rankdata(np.concatenate([genuine, impostor]))
    wins = ranks[: len(genuine)].sum() - len(genuine) * (len(genuine) + 1) / 2
    return float(wins / (len(genuine) * len(impostor)))


def equal_error_rate(curve: ErrorCurve) -> float:
    """Return where FAR and FRR meet; between two thresholds on the line that joins them."""
    gap = curve.false_rejects - curve.false_accepts  # -1 .. 1, never falls
    after = int(np.argmax(gap >= 0))
    if after == 0 or gap[after] == 0:
        return float((curve.false_rejects[after] + curve.false_accepts[after]) / 2)
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(curve.false_accepts[after - 1] + share * (curve.false_accepts[after] - curve.false_accepts[after - 1]))


def best_accuracy(curve: ErrorCurve, genuine: int, impostor: int) -> tuple[float, float]:
    """Return the best share of right decisions over all thresholds, and that threshold, for so many comparisons of each kind."""
    right = (1 - curve.false_rejects) * genuine + (1 - curve.false_accepts) * impostor
    best = int(np.argmax(right))
    return float(right[best] / (genuine + impostor)), float(curve.thresholds[best])


def threshold_at(false_rate: float, impostor: Scores) -> float:
    """Return the lowest threshold that at most this share of impostor scores (N,) reaches."""
    ordered = np.sort(impostor)[::-1]
    allowed = int(false_rate * len(ordered) + 1e-9)
    return float(np.nextafter(ordered[allowed], np.inf)) if allowed < len(ordered) else -1.0


def can_measure(false_rate: float, trials: int) -> bool:
    """Return whether at least one error is to be expected among the trials: less can't be told from none."""
    return false_rate * trials >= 1 - 1e-9


def accept_rate_at(far: float, genuine: Scores, impostor: Scores) -> tuple[float, Rate]:
    """Return the threshold at a FAR, and TAR there.

    The interval takes comparisons as independent; those of one person are not, so with few people the truth is less certain.
    """
    threshold = threshold_at(far, impostor)
    return threshold, rate(int((genuine >= threshold).sum()), len(genuine))


def rank_one(correct: NDArray[np.bool_]) -> Rate:
    """Return the share of probes whose best candidate is the right subject."""
    return rate(int(correct.sum()), len(correct))


def cumulative_match(ranks: NDArray[np.integer[Any]], most: int) -> list[float]:
    """Return CMC: the share of probes whose right subject is at rank 1..``most`` or better. ``ranks`` (N,), 1 = best, 0 = not found."""
    found = np.asarray(ranks)
    return [float(((found >= 1) & (found <= rank)).mean()) for rank in range(1, most + 1)]


def identified_at(threshold: float, top: Scores, correct: NDArray[np.bool_]) -> Rate:
    """Return TPIR at a threshold, from each probe's best score (N,) and whether its subject is the right one (N,)."""
    return rate(int((correct & (top >= threshold)).sum()), len(top))


def open_set(fpir: float, *, top: Scores, correct: NDArray[np.bool_], strangers: Scores) -> OpenSet:
    """Return TPIR at an FPIR.

    Args:
        fpir: False-positive identification rate.
        top: (N,) best score of each probe of an enrolled person.
        correct: (N,) whether that candidate is the right subject.
        strangers: (M,) best score of each stranger's probe.
    """
    threshold = threshold_at(fpir, strangers)
    measured = can_measure(fpir, len(strangers))
    if not measured:
        threshold = max(threshold, exponential_tail(strangers, fpir))
    return OpenSet(threshold=threshold, tpir=identified_at(threshold, top, correct), measured=measured)
