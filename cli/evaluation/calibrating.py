"""Making a model's calibration tables from labelled photos: impostor scores, pseudo-tracks, tails. Pure.

Every photo of one subject against every photo of another is an impostor comparison. A pseudo-track is the fused embedding of several
photos of one subject, which differ more than the frames of a real track and so show the most that averaging can do to a stranger's score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.evaluation.faces import FaceSet
from core.errors import UsageError
from core.models.spec import CalibrationPoint, CalibrationSpec, ProbeKind
from core.types import F32
from embed.tail import COUNTED_ERRORS, TailFits, fit_tails, pareto_tail

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
TRACK_SHOTS = 5
"""Photos fused into a pseudo-track: as many shots as a track keeps."""
FEWEST_SHOTS = 3
TRACKS_PER_SUBJECT = 4
RESAMPLES = 200
UPPER = 0.95
"""The score written is the upper 95 % bound over resampled people: we would rather not name than name wrongly."""
FEWEST_COMPARISONS = 1000
SMALLEST_STEP = 0.005
"""Cosine a decade: a table must rise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impostors:
    """Impostor scores of one kind of probe, with whom they compare."""

    kind: ProbeKind
    scores: NDArray[np.float64]
    probe_subjects: NDArray[np.int64]
    reference_subjects: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A calibration table and how it came about."""

    spec: CalibrationSpec
    fits: tuple[TailFits, ...]
    best: tuple[float, ...]
    """The scores before the upper bound is taken."""


def impostors(faces: FaceSet, kind: ProbeKind, rng: np.random.Generator) -> Impostors:
    """Compare across subjects; for tracks, pseudo-tracks of one subject with the single photos of the others.

    Raises:
        UsageError: too few comparisons.
    """
    names = sorted(set(faces.subjects))
    subjects = np.array([names.index(subject) for subject in faces.subjects], np.int64)
    if kind == "single":
        probes, of = faces.vectors, subjects
        different = np.triu(of[:, None] != subjects[None], 1)
    else:
        probes, of = pseudo_tracks(faces.vectors, subjects, rng)
        different = of[:, None] != subjects[None]
    if int(different.sum()) < FEWEST_COMPARISONS:
        raise UsageError(
            f"calibration for {kind} probes: {int(different.sum())} comparisons of two people, at least {FEWEST_COMPARISONS} are needed; "
            f"add subjects{'' if kind == 'single' else f' with {FEWEST_SHOTS} or more photos'}"
        )
    rows, columns = np.nonzero(different)
    scores = (probes @ faces.vectors.T)[rows, columns].astype(np.float64)
    return Impostors(kind=kind, scores=scores, probe_subjects=of[rows], reference_subjects=subjects[columns])


def pseudo_tracks(vectors: F32, subjects: NDArray[np.int64], rng: np.random.Generator) -> tuple[F32, NDArray[np.int64]]:
    """Return fused embeddings (T, D) of random photos of each subject with enough of them, and their subjects (T,)."""
    tracks: list[F32] = [np.zeros((0, vectors.shape[1]), np.float32)]
    owners: list[int] = []
    for subject in np.unique(subjects):
        mine = np.flatnonzero(subjects == subject)
        if len(mine) < FEWEST_SHOTS:
            continue
        for _ in range(TRACKS_PER_SUBJECT):
            fused = vectors[rng.choice(mine, min(TRACK_SHOTS, len(mine)), replace=False)].mean(axis=0)
            tracks.append((fused / np.linalg.norm(fused))[None].astype(np.float32))
            owners.append(int(subject))
    return np.concatenate(tracks), np.array(owners, np.int64)


def make_table(found: Impostors, *, source: str, rng: np.random.Generator) -> Table:
    """Turn impostor scores into a table: counted where enough was counted, else the Pareto tail, each with its upper bound."""
    best = quantiles(found.scores)
    upper = np.maximum(best, np.quantile(resampled(found, rng), UPPER, axis=0))
    scores = rising(upper)
    points = tuple(
        CalibrationPoint(far=far, score=round(float(score), 3), measured=far * len(found.scores) >= COUNTED_ERRORS)
        for far, score in zip(FARS, scores, strict=True)
    )
    return Table(
        spec=CalibrationSpec(kind=found.kind, points=points, source=source, comparisons=len(found.scores)),
        fits=tuple(fit_tails(found.scores, FARS)),
        best=tuple(float(score) for score in best),
    )


def quantiles(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the score at each of FARS: counted down to COUNTED_ERRORS false matches, from the Pareto tail beyond."""
    tail = pareto_tail(scores, FARS)
    counted = [float(np.quantile(scores, 1 - far)) if far * len(scores) >= COUNTED_ERRORS else -1.0 for far in FARS]
    return np.array([count if count > -1 else fitted for count, fitted in zip(counted, tail, strict=True)])


def resampled(found: Impostors, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the quantiles (RESAMPLES, len(FARS)) when other people of the same kind had been photographed.

    People are drawn with replacement, not comparisons: all comparisons of one person share that person's luck.
    """
    subjects = int(max(found.probe_subjects.max(), found.reference_subjects.max())) + 1
    rows = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(0, subjects, subjects), minlength=subjects)
        weights = times[found.probe_subjects] * times[found.reference_subjects]
        rows.append(quantiles(np.repeat(found.scores, weights)))
    return np.array(rows)


def rising(scores: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return the scores so that each is at least SMALLEST_STEP above the one before, and none above 0.999."""
    result: list[float] = []
    for score in scores:
        result.append(max(float(score), result[-1] + SMALLEST_STEP) if result else float(score))
    room = [0.999 - SMALLEST_STEP * (len(result) - 1 - i) for i in range(len(result))]
    return [min(score, most) for score, most in zip(result, room, strict=True)]


def toml_of(tables: Sequence[Table]) -> str:
    """Return the tables as they stand in a registry file, below their model."""
    lines: list[str] = []
    for table in tables:
        spec = table.spec
        lines += [
            "[[model.calibration]]",
            f'kind = "{spec.kind}"',
            f'source = "{spec.source}"',
            f"comparisons = {spec.comparisons}",
            "points = [",
        ]
        lines += [
            f"    {{ far = {point.far:.0e}, score = {point.score:.3f}, measured = {str(point.measured).lower()} }},".replace("e-0", "e-")
            for point in spec.points
        ]
        lines += ["]", ""]
    return "\n".join(lines)


def table_report(table: Table) -> dict[str, Any]:
    """Return a table and the models of its tail as JSON."""
    rows = zip(table.spec.points, table.best, table.fits, strict=True)
    return {
        "kind": table.spec.kind,
        "comparisons": table.spec.comparisons,
        "points": [
            {
                "far": point.far,
                "score": point.score,
                "measured": point.measured,
                "before_upper_bound": round(best, 4),
                "counted": None if fits.empirical is None else round(fits.empirical, 4),
                "normal": round(fits.normal, 4),
                "exponential": round(fits.exponential, 4),
                "pareto": round(fits.pareto, 4),
            }
            for point, best, fits in rows
        ],
    }
