"""Face tracks of one camera, by place and appearance. Pure: time enters as ``now_s``, embeddings are asked for.

Two steps a frame. ``plan`` associates by place and says which faces it wants to see embedded: new ones, ambiguous ones
(two faces near one track, or two tracks near one face), ones that no longer look the same, ones that come back after a
gap, and each live track every few seconds or when it is seen clearly better. ``update`` then decides with those embeddings:
a face whose embedding contradicts a track never joins it. Place is solved as an assignment problem (Kuhn 1955; scipy).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from core.types import F32, Faces, Quality
from detect.cuts import correlation
from detect.tracks import Shot, Track

FORBIDDEN = 1e3  # cost of an impossible pair; any real cost is below 3
MIN_IOU = 0.15  # overlap of the predicted and the seen box that is still the same place
MAX_SHIFT = 0.9  # or: distance of the centres in face sizes, per 0.2 s of gap
MAX_SIZE_RATIO = 1.8  # faces don't grow faster than this between two looks
SAME_PATCH = 0.55  # correlation of 12x12 grey patches; the same face 0.1 s later has above 0.8, another face below 0.5
CLEARLY_BETTER = 1.25  # a new shot must be this much better in quality to be taken early
MIN_SHOT_GAP_S = 0.3  # shots closer than this are nearly the same picture
SETTLE_SHOTS = 3  # a young track is looked at this often at the shorter gap


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerSettings:
    """How a tracker decides; the two likeness bounds come from the embedder's calibration."""

    different_below: float
    """Cosine below which two shots are of different people (score at false-match rate 0.1)."""
    same_above: float
    """Cosine above which they are of the same person (score at false-match rate 0.01)."""
    max_gap_s: float = 2.0
    """An unseen track ends after this."""
    reembed_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a frame shows of each of its N faces."""

    faces: Faces
    patches: F32
    """(N, P, P) float32 coarse grey faces."""
    qualities: Sequence[Quality]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Result of the first step."""

    ended: tuple[Track, ...]
    """Tracks that ended: at a cut, or not seen for too long."""
    wanted: tuple[int, ...]
    """Indices of the faces to embed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Result of the second step."""

    tracks: tuple[Track, ...]
    """The track of each face, in the order of the faces."""
    refreshed: tuple[Track, ...]
    """Tracks that got a new shot: worth asking the gallery again."""


class Tracker:
    """The live tracks of one camera. Thread rule: one task; ``plan`` and ``update`` alternate."""

    def __init__(self, settings: TrackerSettings) -> None:
        self._settings = settings
        self.tracks: list[Track] = []

    def plan(self, now_s: float, look: Look, *, cut: bool) -> Plan:
        """Associate by place and ask for the embeddings that are needed to be sure."""
        ended = self.expire(now_s, everything=cut)
        cost = self._place_cost(now_s, look.faces)
        near = cost < FORBIDDEN
        crowded = (near.sum(axis=0) > 1) | (near[near.sum(axis=1) > 1].any(axis=0) if near.size else False)
        pairs = _assign(cost)
        wanted = [i for i in range(len(look.faces)) if bool(crowded[i]) or self._wants(now_s, look, i, pairs.get(i))]
        return Plan(ended=ended, wanted=tuple(wanted))

    def update(self, now_s: float, look: Look, vectors: Mapping[int, F32], *, frame_id: str) -> Update:
        """Decide which face continues which track, given the embeddings ((D,) by face index) that ``plan`` asked for."""
        cost = self._place_cost(now_s, look.faces)
        for index, vector in vectors.items():
            for row, track in enumerate(self.tracks):
                cost[row, index] = self._with_likeness(cost[row, index], track, vector, now_s=now_s)
        pairs = _assign(cost)
        seen: list[Track] = []
        refreshed: list[Track] = []
        known = list(self.tracks)
        for index in range(len(look.faces)):
            if (joined := pairs.get(index)) is None:
                track = self._begin(now_s, look, index, frame_id)
            else:
                track = known[joined]
                track.see(now_s, look.faces.boxes[index], patch=look.patches[index], score=float(look.faces.scores[index]))
            seen.append(track)
            if index in vectors:
                track.add_shot(Shot(t_s=now_s, vector=vectors[index], quality=look.qualities[index]))
                refreshed.append(track)
        return Update(tracks=tuple(seen), refreshed=tuple(refreshed))

    def expire(self, now_s: float, *, everything: bool = False) -> tuple[Track, ...]:
        """End the tracks that were not seen for too long, or all of them, and return them."""
        ended = tuple(t for t in self.tracks if everything or now_s - t.last_s > self._settings.max_gap_s)
        self.tracks = [t for t in self.tracks if t not in ended]
        return ended

    def _begin(self, now_s: float, look: Look, index: int, frame_id: str) -> Track:
        track = Track(
            track_id=f"{frame_id}#{index}", first_s=now_s, last_s=now_s, box=look.faces.boxes[index], patch=look.patches[index]
        )  # fmt: skip
        track.note_place(float(look.faces.scores[index]))
        self.tracks.append(track)
        return track

    def _wants(self, now_s: float, look: Look, index: int, row: int | None) -> bool:
        """Return whether an uncrowded face should be embedded."""
        if row is None:
            return True
        track, quality = self.tracks[row], look.qualities[index]
        since_shot_s = now_s - track.last_shot_s
        if now_s - track.last_s > 2 * MIN_SHOT_GAP_S or correlation(look.patches[index], track.patch) < SAME_PATCH:
            return True
        best = track.best_quality
        if best is None or since_shot_s >= self._settings.reembed_s:
            return True
        return since_shot_s >= MIN_SHOT_GAP_S and (len(track.shots) < SETTLE_SHOTS or quality.value > CLEARLY_BETTER * best.value)

    def _with_likeness(self, place: float, track: Track, vector: F32, *, now_s: float) -> float:
        """Return the cost of a pair once the face's embedding is known."""
        likeness = track.likeness(vector)
        if likeness is None:
            return place
        if likeness < self._settings.different_below:
            return FORBIDDEN
        if place >= FORBIDDEN:  # out of place: only somebody who surely is the same, after a short absence
            lost = now_s > track.last_s + MIN_SHOT_GAP_S
            return 2.0 - likeness if lost and likeness >= self._settings.same_above else FORBIDDEN
        return place + (1.0 - likeness)

    def _place_cost(self, now_s: float, faces: Faces) -> NDArray[np.float64]:
        """Return (tracks, faces) float64: 1 - IoU of predicted and seen box plus their distance, FORBIDDEN where impossible."""
        if not self.tracks or not len(faces):
            return np.full((len(self.tracks), len(faces)), FORBIDDEN)
        predicted = np.stack([track.predict(now_s) for track in self.tracks])
        gaps_s = np.array([now_s - track.last_s for track in self.tracks])
        overlap = pairwise_iou(predicted, faces.boxes)
        size_a, size_b = _sizes(predicted)[:, None], _sizes(faces.boxes)[None, :]
        centre_a, centre_b = predicted[:, :2] + predicted[:, 2:], faces.boxes[:, :2] + faces.boxes[:, 2:]
        shift = np.linalg.norm((centre_a[:, None] - centre_b[None]) / 2, axis=2) / np.maximum(size_a, size_b)
        reach = MAX_SHIFT * np.clip(gaps_s / 0.2, 0.5, 2.0)[:, None]
        growth = np.maximum(size_a, size_b) / np.maximum(1e-3, np.minimum(size_a, size_b))
        possible = ((overlap >= MIN_IOU) | (shift <= reach)) & (growth <= MAX_SIZE_RATIO)
        cost: NDArray[np.float64] = np.where(possible, (1.0 - overlap) + 0.3 * np.minimum(shift, 2.0), FORBIDDEN)
        return cost


def _assign(cost: NDArray[np.float64]) -> dict[int, int]:
    """Return {face: track row} of least total cost, impossible pairs left out."""
    rows, columns = linear_sum_assignment(cost)
    return {int(c): int(r) for r, c in zip(rows, columns, strict=True) if cost[r, c] < FORBIDDEN}


def _sizes(boxes: F32) -> NDArray[np.float64]:
    """Return (N,) float64 geometric mean of width and height, px."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0).astype(np.float64)
    sizes: NDArray[np.float64] = np.sqrt(sides.prod(axis=1))
    return sizes


def pairwise_iou(a: F32, b: F32) -> NDArray[np.float64]:
    """Return (N, M) float64 intersection over union of (N, 4) and (M, 4) boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.clip(high - low, 0, None).astype(np.float64).prod(axis=2)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).astype(np.float64).prod(axis=1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).astype(np.float64).prod(axis=1)
    union = area_a[:, None] + area_b[None] - inner
    iou: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return iou
