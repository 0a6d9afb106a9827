"""Verification: are two photos of one person? From a CSV of labelled pairs."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.evaluation.faces import FaceSet
from cli.evaluation.identification import shown
from core.errors import NotFoundError, UnreadableMediaError, UsageError
from core.photo import read_bytes
from embed.calibration import Calibration
from embed.metrics import (
    ErrorCurve,
    accept_rate_at,
    area_under_roc,
    best_accuracy,
    can_measure,
    equal_error_rate,
    error_curve,
    rate,
)
from enrollment.record import Photo

FILE_COLUMNS = (("file_x", "file_y"), ("file1", "file2"), ("a", "b"))
DECISION_COLUMNS = ("decision", "label", "same")
SAME = {"yes": True, "1": True, "true": True, "same": True, "no": False, "0": False, "false": False, "different": False}
FARS = (0.01, 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two photos and whether they show one person."""

    file_x: str
    file_y: str
    same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Scores of the pairs of which both faces were found."""

    genuine: NDArray[np.float64]
    impostor: NDArray[np.float64]
    skipped: int

    def curve(self) -> ErrorCurve:
        """Return FAR and FRR over all thresholds."""
        return error_curve(self.genuine, self.impostor)


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs: columns file_x, file_y and Decision (Yes | No), or label (1 | 0).

    Raises:
        NotFoundError, UnreadableMediaError: the file can't be read.
        UsageError: columns are missing, or a decision is none.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(_parse(csv.DictReader(file), path.name))
    except FileNotFoundError as err:
        raise NotFoundError(f"{path}: no such file") from err
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise UnreadableMediaError(f"{path}: is no CSV in UTF-8: {err}") from err


def _parse(table: "csv.DictReader[str]", name: str) -> Iterator[Pair]:
    columns = {column.strip().lower(): column for column in table.fieldnames or () if column}
    files = next((pair for pair in FILE_COLUMNS if set(pair) <= set(columns)), None)
    decision = next((column for column in DECISION_COLUMNS if column in columns), None)
    if files is None or decision is None:
        raise UsageError(f"{name}: needs the columns file_x, file_y and Decision (Yes or No) or label (1 or 0), has {', '.join(columns)}")
    for row in table:
        word = (row[columns[decision]] or "").strip().lower()
        if word not in SAME:
            raise UsageError(f"{name}, line {table.line_num}: {decision} is '{word}', not one of {', '.join(SAME)}")
        file_x, file_y = ((row[columns[column]] or "").strip() for column in files)
        if not file_x or not file_y:
            raise UsageError(f"{name}, line {table.line_num}: names no two files")
        yield Pair(file_x=file_x, file_y=file_y, same=SAME[word])


def photos_of(pairs: list[Pair], images: Path) -> list[Photo]:
    """Return each photo that a pair names once."""
    files = sorted({file for pair in pairs for file in (pair.file_x, pair.file_y)})
    return [Photo(file=file, subject=file, read=partial(read_bytes, images / file)) for file in files]


def compare(pairs: list[Pair], faces: FaceSet) -> Comparisons:
    """Score the pairs; those of which a face was not found are skipped and counted.

    Raises:
        UsageError: no pair of one person, or none of two people, is left.
    """
    rows = {file: row for row, file in enumerate(faces.files)}
    usable = [pair for pair in pairs if pair.file_x in rows and pair.file_y in rows]
    x, y = ([rows[file] for file in side] for side in ([p.file_x for p in usable], [p.file_y for p in usable]))
    scores = (faces.vectors[x].astype(np.float64) * faces.vectors[y]).sum(axis=1)
    same = np.array([pair.same for pair in usable], bool)
    if same.all() or not same.any():
        raise UsageError("pairs: need pairs of one person and pairs of two people in which both faces are found; check --images")
    return Comparisons(genuine=scores[same], impostor=scores[~same], skipped=len(pairs) - len(usable))


def verification_report(comparisons: Comparisons, *, calibration: Calibration) -> dict[str, Any]:
    """Return the figures: ROC area, best accuracy, EER, TAR at fixed FAR, and both rates at the calibrated scores."""
    genuine, impostor, curve = comparisons.genuine, comparisons.impostor, comparisons.curve()
    accuracy, threshold = best_accuracy(curve, len(genuine), len(impostor))
    tar, thresholds, measured = {}, {}, {}
    calibrated = {}
    for far in FARS:
        name = f"{far:g}"
        at, share = accept_rate_at(far, genuine, impostor)
        tar[name], thresholds[name], measured[name] = shown(share), round(at, 4), can_measure(far, len(impostor))
        score = calibration.score_at(far, kind="single")
        calibrated[name] = {
            "threshold": round(score, 4),
            "tar": shown(rate(int((genuine >= score).sum()), len(genuine))),
            "far": shown(rate(int((impostor >= score).sum()), len(impostor))),
        }
    return {
        "pairs": len(genuine) + len(impostor),
        "genuine": len(genuine),
        "impostor": len(impostor),
        "skipped_pairs": comparisons.skipped,
        "accuracy": round(accuracy, 4),
        "accuracy_threshold": round(threshold, 4),
        "auc": round(area_under_roc(genuine, impostor), 6),
        "eer": round(equal_error_rate(curve), 6),
        "tar": tar,
        "tar_measured": measured,
        "thresholds": thresholds,
        "calibrated": calibrated,
    }
