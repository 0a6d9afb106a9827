"""Tracks follow a face by place and appearance, survive short absences, and never join two people."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from core.types import F32, Faces, Quality
from detect.tracker import Look, Tracker, TrackerSettings, pairwise_iou
from detect.tracks import MAX_PATH, Track

SETTINGS = TrackerSettings(different_below=0.15, same_above=0.3)
GOOD = Quality(value=0.8, reasons=())


class Person:
    """Somebody with a face that looks alike in every frame, up to a little noise."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._vector = self._rng.standard_normal(512)
        self.patch = self._rng.uniform(0, 255, (12, 12)).astype(np.float32)

    def vector(self) -> F32:
        noisy = self._vector + 0.5 * self._rng.standard_normal(512)
        return (noisy / np.linalg.norm(noisy)).astype(np.float32)


def face_at(x: float, y: float = 100.0, size: float = 60.0) -> tuple[float, float, float, float]:
    return (x, y, x + size, y + size)


class Scene:
    """Plays a tracker: every frame shows people at places; embeddings are given for the faces it asks for."""

    def __init__(self) -> None:
        self.tracker = Tracker(SETTINGS)
        self.ended: list[Track] = []
        self.asked = 0
        self._frame = 0

    def show(
        self, now_s: float, people: Sequence[tuple[Person, tuple[float, float, float, float]]], *, cut: bool = False
    ) -> tuple[Track, ...]:
        boxes = np.array([box for _, box in people], np.float32).reshape(-1, 4)
        faces = Faces(boxes=boxes, landmarks=np.zeros((len(people), 5, 2), np.float32), scores=np.full(len(people), 0.9, np.float32))
        patches = np.stack([p.patch for p, _ in people]) if people else np.zeros((0, 12, 12), np.float32)
        look = Look(faces=faces, patches=patches, qualities=[GOOD] * len(people))
        plan = self.tracker.plan(now_s, look, cut=cut)
        self.ended += plan.ended
        self.asked += len(plan.wanted)
        vectors: Mapping[int, F32] = {i: people[i][0].vector() for i in plan.wanted}
        self._frame += 1
        return self.tracker.update(now_s, look, vectors, frame_id=f"cam/s/{self._frame}").tracks


def test_one_walker_is_one_track_embedded_a_few_times() -> None:
    scene, anna = Scene(), Person(1)
    tracks = {scene.show(n * 0.1, [(anna, face_at(50 + 12 * n))])[0].track_id for n in range(40)}
    assert tracks == {"cam/s/1#0"}
    assert scene.asked <= 6  # new, settled twice, then every 2 s: not each of 40 frames


def test_two_people_who_cross_keep_their_tracks() -> None:
    scene, anna, ben = Scene(), Person(1), Person(2)
    ids = []
    for n in range(31):
        left, right = (anna, face_at(100 + 10 * n)), (ben, face_at(400 - 10 * n))
        shown = [left, right] if n % 2 else [right, left]
        by_person = dict(zip([p for p, _ in shown], scene.show(n * 0.1, shown), strict=True))
        ids.append((by_person[anna].track_id, by_person[ben].track_id))
    assert len(set(ids)) == 1


def test_two_people_who_cross_and_hide_each_other_keep_their_tracks() -> None:
    scene, anna, ben = Scene(), Person(1), Person(2)
    seen: dict[Person, set[str]] = {anna: set(), ben: set()}
    for n in range(31):
        shown = [(anna, face_at(100 + 10 * n)), (ben, face_at(400 - 10 * n))]
        if 12 <= n <= 18:  # anna walks in front: ben's face is not seen
            shown = shown[:1]
        for (person, _), track in zip(shown, scene.show(n * 0.1, shown), strict=True):
            seen[person].add(track.track_id)
    assert len(seen[anna]) == 1
    assert len(seen[ben]) == 1


def test_another_face_in_the_same_place_is_another_track() -> None:
    scene, anna, ben = Scene(), Person(1), Person(2)
    first = scene.show(0.0, [(anna, face_at(100))])[0]
    scene.show(0.1, [(anna, face_at(100))])
    second = scene.show(0.2, [(ben, face_at(102))])[0]  # a cut that nobody announced
    assert first.track_id != second.track_id


def test_a_cut_ends_every_track() -> None:
    scene, anna = Scene(), Person(1)
    first = scene.show(0.0, [(anna, face_at(100))])[0]
    second = scene.show(0.1, [(anna, face_at(100))], cut=True)[0]
    assert scene.ended == [first]
    assert second is not first


@pytest.mark.parametrize(("gap_s", "same"), [(1.5, True), (2.5, False)])
def test_a_short_absence_is_survived_a_long_one_is_not(gap_s: float, same: bool) -> None:
    scene, anna = Scene(), Person(1)
    for n in range(5):
        first = scene.show(n * 0.1, [(anna, face_at(100))])[0]
    again = scene.show(0.4 + gap_s, [(anna, face_at(160))])[0]
    assert (again is first) is same


def test_the_path_of_a_long_track_is_thinned_evenly() -> None:
    scene, anna = Scene(), Person(1)
    for n in range(3 * MAX_PATH):
        track = scene.show(n * 0.1, [(anna, face_at(100))])[0]
    times = [point[0] for point in track.path]
    assert len(times) <= MAX_PATH
    assert np.ptp(np.diff(times)) < 1e-6
    assert times[0] == 0.0


def test_fused_embedding_is_a_unit_vector_near_the_person() -> None:
    scene, anna, ben = Scene(), Person(1), Person(2)
    for n in range(60):
        track = scene.show(n * 0.1, [(anna, face_at(100))])[0]
    fused = track.fused()
    assert fused is not None
    assert np.linalg.norm(fused.vector) == pytest.approx(1.0, abs=1e-5)
    assert fused.vector @ anna.vector() > 0.7
    assert abs(fused.vector @ ben.vector()) < 0.4
    assert 0.8 < fused.agreement < 1.0


def test_pairwise_iou_of_equal_apart_and_empty_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [5, 5, 5, 5]], np.float32)
    assert pairwise_iou(boxes, boxes).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
