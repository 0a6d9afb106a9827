"""A cut is told from movement, noise and a light switch."""

import numpy as np
import pytest

from core.types import Image
from detect.cuts import CutDetector


def scene(seed: int) -> Image:
    blocks = np.random.default_rng(seed).integers(20, 200, (9, 16, 3), np.uint8)
    return np.kron(blocks, np.ones((40, 40, 1), np.uint8))


def noisy(image: Image, seed: int) -> Image:
    noise = np.random.default_rng(seed).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def with_walker(image: Image, x: int) -> Image:
    walked = image.copy()
    walked[60:360, x : x + 120] = 240
    return walked


@pytest.mark.parametrize(
    ("after", "cut"),
    [
        (noisy(scene(1), 2), False),
        (with_walker(scene(1), 200), False),
        (np.clip(scene(1).astype(int) + 50, 0, 255).astype(np.uint8), False),  # somebody switched on the light
        (scene(2), True),
        (np.zeros_like(scene(1)), True),  # the lens was covered
    ],
)
def test_what_is_a_cut(after: Image, cut: bool) -> None:
    detector = CutDetector()
    assert not detector.update(scene(1))
    assert detector.update(after) is cut


def test_a_new_picture_size_begins_anew() -> None:
    detector = CutDetector()
    detector.update(scene(1))
    assert not detector.update(scene(2)[:100])
