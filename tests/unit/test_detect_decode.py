"""Decoding of each detector's outputs, from synthetic maps whose faces are known."""

import numpy as np
import pytest

from detect import centerface, scrfd, yunet
from tests.builders.models import FACE_POINTS, centerface_maps, landmarks_of

BOX = (40.0, 24.0, 88.0, 90.0)


def test_centerface_finds_the_drawn_box_and_landmarks():
    faces = centerface.decode(centerface_maps((128, 160), [(*BOX, 0.9)]), 0, 0.5, (128, 160))
    np.testing.assert_allclose(faces.boxes, [BOX], atol=1e-3)
    np.testing.assert_allclose(faces.landmarks, [landmarks_of(BOX)], atol=1e-3)
    np.testing.assert_allclose(faces.scores, [0.9])


def test_centerface_cell_arithmetic_by_hand():
    heat, size, offset, points = (np.zeros((1, n, 8, 8), np.float32) for n in (1, 2, 2, 10))
    heat[0, 0, 2, 3] = 0.75
    size[0, :, 2, 3] = np.log(2), np.log(3)
    offset[0, :, 2, 3] = 0.25, -0.25
    points[0, :2, 2, 3] = 0.5, 1.0
    faces = centerface.decode([heat, size, offset, points], 0, 0.5, (32, 32))
    # h = 4 * 2, w = 4 * 3, y1 = (2 + .25 + .5) * 4 - 4, x1 = (3 - .25 + .5) * 4 - 6
    np.testing.assert_allclose(faces.boxes, [[7, 7, 19, 15]], rtol=1e-6)
    np.testing.assert_allclose(faces.landmarks[0, 0], [1.0 * 12 + 7, 0.5 * 8 + 7], rtol=1e-6)


@pytest.mark.parametrize("score", [0.5, 0.1, np.nan])
def test_centerface_ignores_cells_not_above_the_threshold(score: float):
    assert len(centerface.decode(centerface_maps((64, 64), [(8, 8, 40, 40, score)]), 0, 0.5, (64, 64))) == 0


def test_centerface_reads_the_asked_picture_of_a_batch():
    maps = centerface_maps((64, 64), [(8, 8, 40, 40, 0.9)], batch=2)
    maps[0][1] = 0
    assert [len(centerface.decode(maps, i, 0.5, (64, 64))) for i in (0, 1)] == [1, 0]


def yunet_outputs(canvas_px: tuple[int, int]) -> list[np.ndarray]:
    cells = [(canvas_px[0] // s) * (canvas_px[1] // s) for s in yunet.STRIDES_PX]
    return [np.zeros((1, n, width), np.float32) for width in (1, 1, 4, 10) for n in cells]


def test_yunet_cell_arithmetic_by_hand():
    outputs = yunet_outputs((64, 96))
    cell = 2 * (96 // 16) + 3  # row 2, column 3 at stride 16
    outputs[1][0, cell], outputs[4][0, cell] = 0.81, 1.0
    outputs[7][0, cell] = 0.5, -0.5, np.log(2), np.log(3)
    outputs[10][0, cell] = np.arange(10) / 10
    faces = yunet.decode(outputs, 0, 0.6, (64, 96))
    np.testing.assert_allclose(faces.scores, [0.9], rtol=1e-6)
    np.testing.assert_allclose(faces.boxes, [[56 - 16, 24 - 24, 56 + 16, 24 + 24]], rtol=1e-6)
    np.testing.assert_allclose(faces.landmarks[0], (np.arange(10).reshape(5, 2) / 10 + [3, 2]) * 16, rtol=1e-6)


def scrfd_outputs(canvas_px: tuple[int, int], *, batched: bool) -> list[np.ndarray]:
    anchors = [(canvas_px[0] // s) * (canvas_px[1] // s) * 2 for s in scrfd.STRIDES_PX]
    return [np.zeros((1, n, width) if batched else (n, width), np.float32) for width in (1, 4, 10) for n in anchors]


@pytest.mark.parametrize("batched", [False, True])
def test_scrfd_anchor_arithmetic_by_hand(batched: bool):
    outputs = scrfd_outputs((64, 96), batched=batched)
    anchor = (1 * (96 // 32) + 2) * 2 + 1  # row 1, column 2 at stride 32, second anchor
    score, sides, points = ((outputs[2 + 3 * kind][0] if batched else outputs[2 + 3 * kind])[anchor] for kind in range(3))
    score[0] = 0.8
    sides[:] = 1, 0.5, 0.25, 2
    points[:2] = -0.5, 0.5
    faces = scrfd.decode(outputs, 0, 0.5, (64, 96))
    np.testing.assert_allclose(faces.boxes, [[64 - 32, 32 - 16, 64 + 8, 32 + 64]])
    np.testing.assert_allclose(faces.landmarks[0, 0], [64 - 16, 32 + 16])
    np.testing.assert_allclose(faces.scores, [0.8])


@pytest.mark.parametrize(
    ("module", "outputs"),
    [(centerface, centerface_maps((32, 32), [])), (yunet, yunet_outputs((32, 32))), (scrfd, scrfd_outputs((32, 32), batched=False))],
)
def test_each_architecture_knows_its_own_outputs_only(module, outputs: list[np.ndarray]):
    assert module.check_outputs(outputs) is None
    assert "expected" in module.check_outputs(outputs[:3])
    assert "expected" in module.check_outputs([*outputs[:-1], np.zeros((1, 7, 3), np.float32)])


def test_landmark_fractions_are_a_face():
    assert (FACE_POINTS[0] < FACE_POINTS[1])[0]
    assert (FACE_POINTS[:2, 1] < FACE_POINTS[3:, 1]).all()
