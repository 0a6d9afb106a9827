"""Alignment: the similarity is the least-squares one, and chips show what they should."""

from functools import lru_cache

import numpy as np
import pytest

from embed.align import TEMPLATES, Template, View, cut_chips, similarity

ARCFACE, DLIB = TEMPLATES["arcface112"], TEMPLATES["dlib150"]


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The paper's solution by singular values, as oracle."""
    ms, mt = source.mean(0), target.mean(0)
    u, d, vt = np.linalg.svd((target - mt).T @ (source - ms) / len(source))
    s = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    scale = (d @ np.diag(s)) / ((source - ms) ** 2).sum(1).mean()
    a = scale * u @ s @ vt
    return np.column_stack([a, mt - a @ ms])


def turned(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    return (points @ turn.T + shift).astype(np.float32)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("noise", [0.0, 3.0, 60.0])
def test_similarity_is_umeyamas(template: str, noise: float):
    points = TEMPLATES[template].points
    rng = np.random.default_rng(0)
    marks = np.stack([turned(points, d, 2.5, (300, 200)) for d in (-70, 0, 33, 180)])
    marks += rng.normal(0, noise, marks.shape).astype(np.float32)
    for got, one in zip(similarity(marks, points), marks, strict=True):
        np.testing.assert_allclose(got, umeyama(one.astype(np.float64), points.astype(np.float64)), rtol=1e-6, atol=1e-6)


def test_mirrored_landmarks_are_not_reflected():
    points = ARCFACE.points
    matrix = similarity((points * [-1, 1] + [112, 0]).astype(np.float32)[None], points)[0]
    assert np.linalg.det(matrix[:, :2]) > 0


def test_landmarks_on_one_point_give_a_chip_and_no_error():
    chips = cut_chips(np.full((50, 50, 3), 7, np.uint8), np.full((1, 5, 2), 20, np.float32), ARCFACE, View())
    assert chips.shape == (1, 112, 112, 3)


@lru_cache
def ramp(height: int, width: int) -> np.ndarray:
    """A picture whose red says x and whose green says y, 0..255 over each side."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = (np.arange(width) * 255 / (width - 1)).round()
    image[..., 1] = (np.arange(height) * 255 / (height - 1)).round()[:, None]
    return image


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.9, 2.1, 4.0, 7.9, 16.5])
@pytest.mark.parametrize("degrees", [0, 25, -80])
def test_chips_show_the_right_pixels_however_much_they_shrink(scale: float, degrees: float):
    image = ramp(3000, 3200)
    points = ARCFACE.points
    marks = turned(points - 56, degrees, scale, (1600, 1500))
    chip = cut_chips(image, marks[None], ARCFACE, View())[0].astype(float)
    y, x = np.mgrid[:112, :112]
    source = turned(np.stack([x, y], axis=2).reshape(-1, 2) - 56, degrees, scale, (1600, 1500)).reshape(112, 112, 2)
    want = source * [255 / 3199, 255 / 2999]
    error = np.abs(chip[..., :2] - want)  # each halving rounds
    assert error.mean() < 0.7
    assert error.max() < 1.6


def test_a_face_across_the_picture_edge_is_black_outside():
    points = ARCFACE.points
    for scale in (1.0, 3.0):
        marks = turned(points, 0, scale, (-56 * scale, 30))
        chip = cut_chips(np.full((400, 400, 3), 200, np.uint8), marks[None], ARCFACE, View())[0]
        assert chip[:, :53].max() == 0
        assert (chip[:, 60:] == 200).all()


def test_shrinking_does_not_alias():
    checker = (np.indices((1200, 1200)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    marks = turned(ARCFACE.points, 0, 8.0, (100, 100))
    chip = cut_chips(checker, marks[None], ARCFACE, View())[0]
    assert np.abs(chip.astype(int) - 128).max() <= 2


def test_no_faces_no_chips():
    assert cut_chips(np.zeros((50, 50, 3), np.uint8), np.zeros((0, 5, 2), np.float32), DLIB, View()).shape == (0, 150, 150, 3)


def test_a_face_far_outside_the_picture_is_a_black_chip():
    marks = turned(DLIB.points, 0, 5.0, (-9000, 4000))
    assert cut_chips(np.full((60, 60, 3), 200, np.uint8), marks[None], DLIB, View()).max() == 0


def test_a_wider_view_shows_the_face_smaller_about_its_middle():
    image = ramp(400, 500)
    chips = [cut_chips(image, (ARCFACE.points + 100)[None], ARCFACE, View(reach=reach))[0].astype(float) for reach in (1.0, 1.25)]
    steps = [np.diff(chip[..., 0].mean(axis=0)).mean() for chip in chips]
    assert steps[1] / steps[0] == pytest.approx(1.25, rel=0.02)
    x, y = ARCFACE.points.mean(axis=0).round().astype(int)
    np.testing.assert_allclose(chips[1][y, x], chips[0][y, x], atol=1)


def test_a_mirrored_view_is_the_plain_one_with_left_and_right_exchanged():
    marks = turned(ARCFACE.points, 20, 1.5, (100, 80))[None]
    plain, mirrored = (cut_chips(ramp(400, 500), marks, ARCFACE, View(reach=1.1, mirrored=m)) for m in (False, True))
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_views_of_a_photo_are_distinct_and_mirrored_in_pairs_if_at_all(template: Template):
    assert len(set(template.photo)) == len(template.photo) >= 1
    mirrored = {view.reach for view in template.photo if view.mirrored}
    assert mirrored in (set(), {view.reach for view in template.photo})
