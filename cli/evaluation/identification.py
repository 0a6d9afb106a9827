"""Open-set identification: enrolled people must be found, strangers must not be named. Pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.evaluation.faces import FaceSet
from core.types import F32
from embed.calibration import Calibration
from embed.metrics import ErrorCurve, Rate, cumulative_match, error_curve, identified_at, open_set, rank_one, rate

FPIRS = (0.01, 0.001)
MOST_RANKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """The best scores of all probes."""

    top: F32
    """(N,) of each probe of an enrolled person."""
    correct: NDArray[np.bool_]
    """(N,) whether that candidate is the right subject."""
    ranks: NDArray[np.int64]
    """(N,) of the right subject, 1 = best."""
    strangers: F32
    """(M,) of each stranger's probe."""
    stranger_source: str
    """``folder``, or ``leave-one-out``: each probe again, with its own subject taken out of the gallery."""

    def curve(self) -> ErrorCurve:
        """Return FPIR and FNIR over all thresholds; a probe whose best candidate is wrong is missed at any."""
        return error_curve(np.where(self.correct, self.top, -1.0), self.strangers)


def run_trials(gallery: FaceSet, probes: FaceSet, strangers: FaceSet | None) -> Trials:
    """Compare probes with a gallery.

    Args:
        gallery: Enrolled photos; several of a subject count with their best score.
        probes: Photos of enrolled people; those of a subject without an enrolled photo count as strangers.
        strangers: Photos of people who are not enrolled, or None: leave-one-subject-out.
    """
    names = sorted(set(gallery.subjects))
    enrolled = np.array([names.index(subject) for subject in gallery.subjects])
    known = np.array([subject in names for subject in probes.subjects], bool)
    scores = subject_scores(probes.vectors, gallery.vectors, enrolled, len(names))
    truth = np.array([names.index(subject) for subject, is_known in zip(probes.subjects, known, strict=True) if is_known], np.int64)
    mine = scores[known]
    rows = np.arange(len(truth))
    others = mine.copy()
    others[rows, truth] = -1.0
    outside = scores[~known].max(axis=1)
    if strangers is not None:
        given = subject_scores(strangers.vectors, gallery.vectors, enrolled, len(names))
        outside = np.concatenate([outside, given.max(axis=1)])
    alone = len(outside) == 0
    return Trials(
        top=mine.max(axis=1),
        correct=mine.argmax(axis=1) == truth,
        ranks=1 + (mine > mine[rows, truth][:, None]).sum(axis=1),
        strangers=others.max(axis=1) if alone else outside,
        stranger_source="leave-one-out" if alone else "folder",
    )


def subject_scores(probes: F32, references: F32, enrolled: NDArray[Any], subjects: int) -> F32:
    """Return (N, S): the best score of each probe (N, D) over the references (R, D) of each subject (``enrolled`` (R,) 0..S-1)."""
    scores = np.full((len(probes), subjects), -1.0, np.float32)
    compared = probes @ references.T
    for subject in range(subjects):
        scores[:, subject] = compared[:, enrolled == subject].max(axis=1)
    return scores


def identification_report(trials: Trials, *, calibration: Calibration, target_fpir: float, references: int) -> dict[str, Any]:
    """Return the figures of a run: at measured false-positive rates, and at the threshold in use."""
    in_use = calibration.threshold(kind="single", fpir=target_fpir, gallery_size=references)
    points = {f"{fpir:g}": open_set(fpir, top=trials.top, correct=trials.correct, strangers=trials.strangers) for fpir in FPIRS}
    return {
        "rank1": round(rank_one(trials.correct).value, 4),
        "rank1_interval": interval(rank_one(trials.correct)),
        "cmc": [round(share, 4) for share in cumulative_match(trials.ranks, MOST_RANKS)],
        "tpir": {name: round(point.tpir.value, 4) for name, point in points.items()},
        "tpir_interval": {name: interval(point.tpir) for name, point in points.items()},
        "tpir_measured": {name: point.measured for name, point in points.items()},
        "thresholds": {name: round(point.threshold, 4) for name, point in points.items()} | {"in_use": round(in_use, 4)},
        "in_use": {
            "threshold": round(in_use, 4),
            "target_fpir": target_fpir,
            "tpir": shown(identified_at(in_use, trials.top, trials.correct)),
            "fpir": shown(rate(int((trials.strangers >= in_use).sum()), len(trials.strangers))),
        },
        "strangers": trials.stranger_source,
        "stranger_probes": len(trials.strangers),
    }


def shown(share: Rate) -> dict[str, float]:
    """Return a rate as JSON."""
    return {"value": round(share.value, 4), "low": round(share.low, 4), "high": round(share.high, 4)}


def interval(share: Rate) -> list[float]:
    """Return the ends of a rate's 95 % interval."""
    return [round(share.low, 4), round(share.high, 4)]
