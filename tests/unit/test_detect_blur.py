"""Who is blurred in a picture, and that nothing is left of them."""

import numpy as np
import pytest

from detect.blur import CELLS, blur_faces, blur_whole, bystanders

BOXES = np.array([[90, 40, 130, 90], [10, 40, 50, 90]], np.float32)  # in a picture of 200 x 130: in the middle, and at the left


def noise(height: int = 130, width: int = 200) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("own", "expected"),
    [("nobody", [0, 1]), ("middle", [1]), ((8.0, 42.0, 52.0, 88.0), [0]), ((150.0, 0.0, 190.0, 50.0), [0, 1])],
)
def test_all_are_bystanders_but_the_pictures_own_face(own: object, expected: list[int]) -> None:
    assert bystanders(BOXES, own, 200, 130) == expected  # type: ignore[arg-type]


def test_a_face_that_is_not_in_the_middle_is_not_the_pictures_own() -> None:
    assert bystanders(BOXES[1:], "middle", 200, 130) == [0]
    assert bystanders(np.zeros((0, 4), np.float32), "middle", 200, 130) == []


def test_nothing_fine_is_left_of_a_blurred_face_and_all_of_the_rest() -> None:
    image = noise()
    out = blur_faces(image, BOXES[1:])
    assert np.array_equal(out[:, 80:], image[:, 80:])
    assert np.array_equal(image, noise())  # the given picture is not changed
    face = out[40:90, 10:50].astype(int)
    assert np.abs(np.diff(face, axis=1)).max() < 12
    assert len(np.unique(out[22:108, 0:64].reshape(-1, 3), axis=0)) < 86 * 64
    assert face.std() < image[40:90, 10:50].std() / CELLS * 2


def test_boxes_may_stick_out_and_be_empty() -> None:
    boxes = np.array([[-30, -30, 5, 5], [190, 120, 260, 200], [50, 50, 50, 50], [300, 300, 310, 310]], np.float32)
    assert blur_faces(noise(), boxes).shape == (130, 200, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (130, 200)])
def test_a_whole_picture_can_be_blurred_whatever_its_shape(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    assert blur_whole(image).shape == image.shape
    if min(shape) > 100:
        assert np.abs(np.diff(blur_whole(image).astype(int), axis=1)).max() < 12
