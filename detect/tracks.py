"""One face over time in one camera: its place, its path and what it looked like at its best. No I/O, no clock."""

from dataclasses import dataclass, field

import numpy as np

from core.types import F32, Quality

MAX_SHOTS = 8  # embeddings fused per track: more adds cost and no accuracy on the labelled clips
MAX_PATH = 256  # points remembered; thinned to half when full
VELOCITY_SMOOTHING = 0.5  # weight of the newest step in the velocity


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One embedded look at a face."""

    t_s: float
    vector: F32
    """(D,) float32, L2 norm 1."""
    quality: Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """The embedding of a track."""

    vector: F32
    """(D,) float32, L2 norm 1."""
    agreement: float
    """Length of the weighted mean of the unit shots, 0..1: 1 for one shot or equal shots, less the more averaging happened."""


@dataclass(slots=True, kw_only=True)
class Track:
    """A live track. Thread rule: owned by its camera's tracker."""

    track_id: str
    first_s: float
    last_s: float
    box: F32
    """(4,) float32, the last seen box in frame pixels."""
    patch: F32
    """Coarse grey picture of the face as last seen, for a cheap test whether it is still the same."""
    hits: int = 1
    velocity: F32 = field(default_factory=lambda: np.zeros(4, np.float32))
    """(4,) float32 px/s of the box edges."""
    best_detector_score: float = 0.0
    max_height_px: float = 0.0
    shots: list[Shot] = field(default_factory=list)
    """At most MAX_SHOTS, best quality first."""
    last_shot_s: float = float("-inf")
    path: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    """(t_s, x1, y1, x2, y2)."""
    path_stride: int = 1

    def predict(self, now_s: float) -> F32:
        """Return the (4,) box expected at now_s: the last one moved by its velocity, for at most half a second."""
        return (self.box + self.velocity * np.float32(min(0.5, now_s - self.last_s))).astype(np.float32)

    def see(self, now_s: float, box: F32, *, patch: F32, score: float) -> None:
        """Extend the track by one detection."""
        gap_s = now_s - self.last_s
        if gap_s > 0:
            step = (box - self.box) / np.float32(max(gap_s, 0.02))
            self.velocity = (VELOCITY_SMOOTHING * step + (1 - VELOCITY_SMOOTHING) * self.velocity).astype(np.float32)
        self.box, self.patch, self.last_s = box, patch, now_s
        self.hits += 1
        self.note_place(score)

    def note_place(self, score: float) -> None:
        """Remember the present box on the path, and the best detector score and size."""
        self.best_detector_score = max(self.best_detector_score, score)
        self.max_height_px = max(self.max_height_px, float(self.box[3] - self.box[1]))
        if (self.hits - 1) % self.path_stride == 0:
            x1, y1, x2, y2 = (float(v) for v in self.box)
            self.path.append((self.last_s, x1, y1, x2, y2))
            if len(self.path) > MAX_PATH:
                self.path = self.path[::2]
                self.path_stride *= 2

    def add_shot(self, shot: Shot) -> None:
        """Keep a shot if it is among the best."""
        self.last_shot_s = shot.t_s
        self.shots.append(shot)
        self.shots.sort(key=lambda kept: -kept.quality.value)
        del self.shots[MAX_SHOTS:]

    @property
    def best_quality(self) -> Quality | None:
        """The quality of the best shot, None before the first."""
        return self.shots[0].quality if self.shots else None

    def fused(self) -> Fused | None:
        """Return the track's embedding, None before the first shot: the mean of its shots weighted by squared quality."""
        if not self.shots:
            return None
        weights = np.array([max(shot.quality.value, 0.05) ** 2 for shot in self.shots], np.float32)
        mean = (weights / weights.sum()) @ np.stack([shot.vector for shot in self.shots])
        agreement = float(np.linalg.norm(mean))
        if agreement < 1e-3:  # shots that cancel out are no track's; trust the best one
            return Fused(vector=self.shots[0].vector, agreement=1.0)
        return Fused(vector=(mean / np.float32(agreement)).astype(np.float32), agreement=agreement)

    def likeness(self, vector: F32) -> float | None:
        """Return the highest cosine of a (D,) embedding with the shots of this track, None without a shot.

        The best of the shots, not the fused one: a turned head resembles its own profile, not the average.
        """
        if not self.shots:
            return None
        return float(max(shot.vector @ vector for shot in self.shots))
