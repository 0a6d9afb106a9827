"""Quality names what is wrong with a drawn face, and leaves a good one alone."""

import cv2
import numpy as np
import pytest

from core.types import Faces
from embed.align import TEMPLATES
from embed.quality import DESCRIPTIONS, assess, describe, pose_of

FACE_PX = 200


def drawn_face(height_px: int = FACE_PX) -> tuple[np.ndarray, np.ndarray]:
    """An oval, lit from the left, with eyes, nose, mouth and skin texture on a room; and its five landmarks."""
    rng = np.random.default_rng(0)
    scale = FACE_PX / 130
    marks = (TEMPLATES["arcface112"].points - 56) * scale + 200
    image = np.full((400, 400, 3), 110, np.uint8)
    cv2.ellipse(image, (200, 205), (75, 100), 0, 0, 360, (190, 150, 130), -1)
    for x, y in marks[:2].astype(int):
        cv2.ellipse(image, (int(x), int(y)), (14, 8), 0, 0, 360, (245, 245, 245), -1)
        cv2.circle(image, (int(x), int(y)), 6, (40, 30, 20), -1)
    cv2.line(image, (200, 200), tuple(int(v) for v in marks[2]), (120, 90, 80), 4)
    cv2.ellipse(image, (200, int(marks[3:, 1].mean())), (26, 7), 0, 0, 360, (140, 60, 70), -1)
    texture = cv2.GaussianBlur(rng.normal(0, 60, image.shape[:2]), (0, 0), 1.5)
    shade = np.linspace(1.25, 0.45, 400)[None, :, None]
    image = np.clip((image + texture[..., None]) * shade, 0, 249).astype(np.uint8)
    factor = height_px / FACE_PX
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), (marks * factor).astype(np.float32)


def quality_of(image: np.ndarray, marks: np.ndarray, *, score: float = 0.92):
    centre, reach = marks.mean(axis=0), np.ptp(marks[:, 1]) * 2.45
    half = np.array([reach * 0.4, reach / 2])
    box = np.concatenate([centre - half, centre + half])[None].astype(np.float32)
    return assess(image, Faces(boxes=box, landmarks=marks[None], scores=np.array([score], np.float32)))[0]


def test_a_clear_frontal_face_is_good():
    quality = quality_of(*drawn_face())
    assert quality.reasons == ()
    assert quality.value > 0.9


@pytest.mark.parametrize(
    ("reason", "damage"),
    [
        ("blurred", lambda image: cv2.GaussianBlur(image, (0, 0), 8)),
        ("blurred", lambda image: cv2.blur(image, (41, 1))),
        ("blurred", lambda image: cv2.blur(image, (1, 41))),
        ("too_dark", lambda image: (image * 0.05).astype(np.uint8)),
        ("too_bright", lambda image: np.clip(image * 2.6 + 40.0, 0, 255).astype(np.uint8)),
        ("low_contrast", lambda image: (128 + (image - 128.0) * 0.08).astype(np.uint8)),
    ],
)
def test_damage_is_named_first_and_lowers_the_value(reason: str, damage):
    image, marks = drawn_face()
    quality = quality_of(np.ascontiguousarray(damage(image)), marks)
    assert quality.reasons[0] == reason
    assert quality.value < 0.7


def test_smaller_is_worse_and_named_below_32_px():
    qualities = [quality_of(*drawn_face(height)) for height in (112, 48, 26, 14)]
    assert [q.value for q in qualities] == sorted((q.value for q in qualities), reverse=True)
    assert ["too_small" in q.reasons for q in qualities] == [False, False, True, True]


def test_sharpness_does_not_reward_size():
    assert abs(quality_of(*drawn_face(200)).value - quality_of(*drawn_face(112)).value) < 0.05


def test_blur_lowers_step_by_step():
    image, marks = drawn_face()
    values = [quality_of(cv2.GaussianBlur(image, (0, 0), sigma), marks).value for sigma in (1, 3, 5, 8, 12)]
    assert values == sorted(values, reverse=True)


def test_a_nose_far_to_the_side_is_an_extreme_pose():
    image, marks = drawn_face()
    marks[2, 0] += 0.6 * (marks[1, 0] - marks[0, 0])
    assert "extreme_pose" in quality_of(image, marks).reasons


def test_a_tilted_head_is_not():
    image, marks = drawn_face()
    turn = cv2.getRotationMatrix2D((200, 200), 35, 1)
    marks = (marks @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
    assert quality_of(cv2.warpAffine(image, turn, (400, 400)), marks).reasons == ()


def test_a_face_across_the_edge_is_cut_off():
    image, marks = drawn_face()
    left = int(marks[2, 0])
    assert "cut_off" in quality_of(np.ascontiguousarray(image[:, left:]), (marks - [left, 0]).astype(np.float32)).reasons


def test_a_low_score_is_named_and_with_a_mouth_at_the_nose_it_is_a_cover():
    image, marks = drawn_face()
    assert quality_of(image, marks, score=0.55).reasons == ("low_detector_score",)
    marks[3:, 1] = marks[2, 1] + 0.3 * (marks[2, 1] - marks[0, 1])
    assert "occluded" in quality_of(image, marks, score=0.75).reasons


def test_pose_is_measured_in_the_turned_face():
    marks = np.array([[-1, -1], [1, -1], [0.5, 0], [-0.8, 1], [0.8, 1]], np.float32)
    pose = pose_of(np.stack([marks, marks[:, ::-1] * [1, -1]]).astype(np.float32))
    np.testing.assert_allclose(pose.yaw, [0.25, 0.25], rtol=1e-6)
    np.testing.assert_allclose(pose.pitch, [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(pose.roll_deg, [0, 90], atol=1e-4)


def test_landmarks_on_one_point_are_useless_and_no_error():
    assert quality_of(drawn_face()[0], np.full((5, 2), 50, np.float32)).value < 0.1


def test_no_faces_no_answers():
    assert assess(np.zeros((50, 50, 3), np.uint8), Faces.none()) == []


def test_every_reason_is_described_in_one_line_that_says_what_to_do():
    for reason in DESCRIPTIONS:
        assert ": " in describe(reason)
        assert "\n" not in describe(reason)
