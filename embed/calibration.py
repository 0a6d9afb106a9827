"""What a score means: from the cosine of one comparison to the chance that a stranger is named by a whole gallery.

A calibration table gives the score at which one comparison of two different people is a false match with probability FAR
(ISO/IEC 19795-1: false match rate). Between its points the score is linear in log10(FAR); beyond the last point it goes on with
the last slope. That is an exponential tail; the tails of cosine scores fall faster, so this asks for a score that is too high rather
than too low: it errs towards "unknown".

A probe that is compared with a gallery of N references is falsely named with probability FPIR = 1 - (1 - FAR)^N. This
takes the N comparisons as independent. References of one subject are not: their scores rise and fall together, so the true
FPIR lies between FAR * subjects and FAR * references, and counting references is the cautious choice.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from core.errors import ModelError
from core.models.spec import CalibrationSpec, ModelSpec, ProbeKind

SMALLEST_GALLERY = 10
"""References. A smaller gallery is treated as one of this size: who is enrolled in a small gallery is often a family or a team, and the
strangers before its camera are their relatives, whose comparisons are false matches more often than those of people drawn at random. See
docs/thresholds.md."""

_KINDS: tuple[ProbeKind, ...] = ("single", "track")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """Score against log10(FAR), piecewise linear and strictly monotone over all of log10(FAR) <= 0."""

    log_far: tuple[float, ...]
    """Ascending: the rarest false match first."""
    scores: tuple[float, ...]
    """Descending."""

    @classmethod
    def of(cls, spec: CalibrationSpec, model: str) -> Self:
        points = sorted(spec.points, key=lambda point: point.far)
        log_far = tuple(math.log10(point.far) for point in points)
        scores = tuple(point.score for point in points)
        if len(points) < 2 or not all(a < b for a, b in pairwise(log_far)) or not all(a > b for a, b in pairwise(scores)):
            raise ModelError(
                f"{model}: calibration for {spec.kind} probes needs two or more points whose score rises as the FAR falls; "
                "mend the registry file"
            )
        return cls(log_far=log_far, scores=scores)

    def score(self, log_far: float) -> float:
        return _on_line(self.log_far, self.scores, log_far)

    def log_far_at(self, score: float) -> float:
        return _on_line(self.scores[::-1], self.log_far[::-1], score)


def _on_line(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Return y at x on the line through points of ascending xs, which goes on with its slope beyond both ends.

    A few floats: NumPy takes seven times as long (22 us, not 3), and a track is decided by several of these.
    """
    behind = max(bisect_right(xs, x), 1)
    end = min(behind, len(xs) - 1)
    slope = (ys[end] - ys[end - 1]) / (xs[end] - xs[end - 1])
    return ys[behind - 1] + slope * (x - xs[behind - 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The calibration of one embedder. Pure and immutable: any thread may use it."""

    model: str
    single: _Curve
    """One face."""
    track: _Curve
    """The fused embedding of a track. Averaging takes noise off impostors too and so raises their scores."""

    @classmethod
    def of(cls, spec: ModelSpec) -> "Calibration":
        """Read a model's tables.

        Raises:
            ModelError: when the model has no calibration for single faces and for tracks, or a table is not monotone.
        """
        curves = {table.kind: _Curve.of(table, spec.name) for table in spec.calibration}
        missing = [kind for kind in _KINDS if kind not in curves]
        if missing:
            raise ModelError(
                f"{spec.name} has no calibration for {' and '.join(missing)} probes, so no score of it means anything yet; run "
                "'sightline evaluate --calibrate FILE.toml' on labelled photos and add the result to the registry"
            )
        return cls(model=spec.name, single=curves["single"], track=curves["track"])

    def threshold(self, *, kind: ProbeKind, fpir: float, gallery_size: int) -> float:
        """Return the cosine from which on a probe is named, so that a stranger is named with probability ``fpir`` at most.

        Args:
            kind: ``single`` for one face, ``track`` for a fused track.
            fpir: False-positive identification rate wanted, 0 < fpir < 1.
            gallery_size: Enrolled references that the probe is compared with; fewer than SMALLEST_GALLERY count as that many.

        Returns:
            Cosine, -1..1. Rises with gallery_size, falls with fpir.

        Raises:
            ValueError: when fpir or gallery_size is out of range.
        """
        if not 0 < fpir < 1:
            raise ValueError(f"fpir: expected 0 < fpir < 1, got {fpir}")
        far = -math.expm1(math.log1p(-fpir) / _counted(gallery_size))
        return min(1.0, max(-1.0, self._curve(kind).score(math.log10(far))))

    def fpir(self, score: float, *, kind: ProbeKind, gallery_size: int) -> float:
        """Return the chance that a stranger's best score reaches ``score``: the inverse of ``threshold``.

        Args:
            score: Cosine, -1..1.
            kind: ``single`` for one face, ``track`` for a fused track.
            gallery_size: Enrolled references that the probe is compared with.

        Returns:
            0..1. Rises with gallery_size, falls with score.

        Raises:
            ValueError: when gallery_size is negative.
        """
        far = 10.0 ** min(0.0, self._curve(kind).log_far_at(score))
        return 1.0 if far >= 1 else -math.expm1(_counted(gallery_size) * math.log1p(-far))

    def score_at(self, far: float, *, kind: ProbeKind) -> float:
        """Return the cosine at which one comparison of two people is a false match with probability ``far`` (0 < far < 1)."""
        return min(1.0, max(-1.0, self._curve(kind).score(math.log10(far))))

    def far(self, score: float, *, kind: ProbeKind) -> float:
        """Return the chance that one comparison of two people reaches ``score``: the inverse of ``score_at``."""
        return float(10.0 ** min(0.0, self._curve(kind).log_far_at(score)))

    def _curve(self, kind: ProbeKind) -> _Curve:
        return self.single if kind == "single" else self.track


def _counted(gallery_size: int) -> int:
    if gallery_size < 0:
        raise ValueError(f"gallery_size: expected 0 or more references, got {gallery_size}")
    return max(gallery_size, SMALLEST_GALLERY)
