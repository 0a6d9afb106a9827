"""Second looks at photos: thumbnails, tight crops, small faces in large photos."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from core.types import Faces, Image
from detect.photo import TILE_OVERLAP_PX, TILE_PX, detect_photo, tile_starts
from detect.refine import VIEW_PX, refine
from tests.builders.models import landmarks_of

VIEW = (VIEW_PX, VIEW_PX)


class SquareDetector:
    """Finds the white square of a picture as a face when ``sees(image height, width, square height)``; remembers the sizes it saw."""

    name = "squares"

    def __init__(self, sees: Callable[[int, int, int], bool]) -> None:
        self.sees = sees
        self.sizes: list[tuple[int, int]] = []

    def scale_of(self, image: Image) -> float:
        return min(1.0, 640 / max(image.shape[:2]))

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Faces:
        self.sizes.append(image.shape[:2])
        rows, columns = np.nonzero(image[..., 0] > 200)
        if not len(rows):
            return Faces.none()
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        if not self.sees(*image.shape[:2], int(box[3] - box[1])):
            return Faces.none()
        return Faces(
            boxes=np.array([box], np.float32), landmarks=landmarks_of(box)[None].astype(np.float32), scores=np.array([0.9], np.float32)
        )


def with_square(height: int, width: int, box: tuple[int, int, int, int]) -> Image:
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def test_a_plain_photo_is_looked_at_once_and_its_face_once_more():
    detector = SquareDetector(lambda h, w, face: True)
    faces = detect_photo(detector, with_square(480, 640, (100, 100, 200, 220)))
    np.testing.assert_allclose(faces.boxes, [[100, 100, 200, 220]])
    assert detector.sizes == [(480, 640), VIEW]


def test_a_face_that_was_seen_well_is_looked_at_once():
    detector = SquareDetector(lambda h, w, face: True)
    for side, looks in ((150, 2), (170, 1), (220, 1), (240, 2)):  # of 75, 85, 110 and 120 px where the detector sees it
        detector.sizes.clear()
        detect_photo(detector, with_square(800, 1280, (500, 300, 500 + side, 300 + side)))
        assert len(detector.sizes) == looks


def test_a_thumbnail_is_enlarged_and_framed_and_its_faces_come_back_in_its_pixels():
    detector = SquareDetector(lambda h, w, face: True)
    faces = detect_photo(detector, with_square(28, 23, (3, 4, 20, 26)))
    assert detector.sizes == [(240, 211), VIEW]
    np.testing.assert_allclose(faces.boxes, [[3, 4, 20, 26]], atol=0.3)


def test_a_tight_crop_gets_a_frame():
    detector = SquareDetector(lambda h, w, face: face < 0.8 * h)
    faces = detect_photo(detector, with_square(400, 300, (0, 0, 300, 400)))
    assert detector.sizes == [(400, 300), (600, 500), VIEW]
    np.testing.assert_allclose(faces.boxes, [[0, 0, 300, 400]])


def test_a_small_face_in_a_large_photo_is_found_in_tiles_and_refined():
    detector = SquareDetector(lambda h, w, face: face * min(1, 640 / max(h, w)) >= 16)
    box = (2500, 1900, 2548, 1950)
    faces = detect_photo(detector, with_square(3000, 4000, box))
    np.testing.assert_allclose(faces.boxes, [box])
    np.testing.assert_allclose(faces.landmarks[0], landmarks_of(box), atol=1.0)
    assert detector.sizes[-1] == VIEW
    assert set(detector.sizes[2:-1]) == {(1920, 1920)}


def test_nothing_there_is_nothing_found():
    assert len(detect_photo(SquareDetector(lambda h, w, face: True), np.zeros((3000, 2000, 3), np.uint8))) == 0


def test_a_face_that_the_closer_look_misses_stays():
    detector = SquareDetector(lambda h, w, face: w == 1920)
    faces = detect_photo(detector, with_square(1080, 1920, (100, 100, 140, 150)))
    np.testing.assert_allclose(faces.boxes, [[100, 100, 140, 150]])


def test_tiles_cover_a_side_and_overlap():
    for length in (1, TILE_PX, TILE_PX + 1, 3000, 4000, 12_000):
        starts = tile_starts(length)
        assert starts[0] == 0
        assert starts[-1] + TILE_PX >= length
        assert all(b - a <= TILE_PX - TILE_OVERLAP_PX for a, b in pairwise(starts))


def test_refined_landmarks_are_the_faces_own_whatever_its_size():
    for side in (20, 80, 400):
        box = (300.0, 200.0, 300.0 + side, 200.0 + side)
        image = with_square(720, 1280, tuple(int(v) for v in box))
        rough = Faces(
            boxes=np.array([box], np.float32),
            landmarks=(landmarks_of(box)[None] + 0.1 * side).astype(np.float32),
            scores=np.array([0.9], np.float32),
        )
        (better,) = refine(SquareDetector(lambda h, w, face: True), [image], [rough])
        np.testing.assert_allclose(better.landmarks[0], landmarks_of(box), atol=max(1.0, 0.03 * side))


def test_landmarks_of_another_face_are_not_taken():
    image = with_square(720, 1280, (300, 200, 400, 300))
    elsewhere = (340.0, 300.0, 440.0, 400.0)
    rough = Faces(
        boxes=np.array([elsewhere], np.float32),
        landmarks=landmarks_of(elsewhere)[None].astype(np.float32),
        scores=np.array([0.9], np.float32),
    )
    (same,) = refine(SquareDetector(lambda h, w, face: True), [image], [rough])
    np.testing.assert_array_equal(same.landmarks, rough.landmarks)
