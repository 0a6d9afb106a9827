"""The detector over in-memory sessions: batches, source pixels, errors."""

import numpy as np
import pytest

from core.errors import ModelError
from detect.detector import open_detector
from tests.builders.models import FunctionSession, centerface_maps, landmarks_of, make_spec


def picture(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def session_finding(*faces: tuple[float, float, float, float, float], provider: str = "cpu") -> FunctionSession:
    return FunctionSession(lambda x: centerface_maps(x.shape[2:], list(faces), batch=len(x)), provider=provider)


def test_results_are_in_source_pixels_best_first():
    session = session_finding((40, 40, 80, 96, 0.7), (200, 60, 260, 140, 0.9))
    faces = open_detector(make_spec(), session, side_px=640).detect([picture(720, 1280)])[0]
    assert session.shapes == [(1, 3, 384, 640)]
    np.testing.assert_allclose(faces.boxes, [[400, 120, 520, 280], [80, 80, 160, 192]], atol=1e-2)
    np.testing.assert_allclose(faces.landmarks[0], landmarks_of((400, 120, 520, 280)), atol=1e-2)
    np.testing.assert_allclose(faces.scores, [0.9, 0.7])


def test_overlapping_boxes_count_once():
    session = session_finding((40, 40, 80, 80, 0.7), (42, 44, 82, 84, 0.9))
    faces = open_detector(make_spec(), session, side_px=640).detect([picture(100, 100)])[0]
    np.testing.assert_allclose(faces.scores, [0.9])


@pytest.mark.parametrize(("provider", "sizes"), [("cpu", [1] * 11), ("cuda", [8, 4])])
def test_batches_have_fixed_sizes_and_every_picture_its_answer(provider: str, sizes: list[int]):
    def heat_from_first_pixel(x: np.ndarray) -> list[np.ndarray]:
        maps = centerface_maps(x.shape[2:], [(8, 8, 40, 40, 1)], batch=len(x))
        maps[0] *= x[:, :1, :1, :1] / 255
        return maps

    images = [np.full((60, 60, 3), 150 + i, np.uint8) for i in range(11)]
    session = FunctionSession(heat_from_first_pixel, provider=provider)
    found = open_detector(make_spec(), session, side_px=640).detect(images)
    assert [shape[0] for shape in session.shapes] == sizes
    np.testing.assert_allclose([faces.scores[0] for faces in found], (150 + np.arange(11)) / 255, rtol=1e-6)


def test_mixed_sizes_run_in_one_call_each_in_its_own_scale():
    session = session_finding((40, 40, 80, 96, 0.7), provider="cuda")
    found = open_detector(make_spec(), session, side_px=640).detect([picture(720, 1280), picture(96, 96), picture(1080, 1920)])
    assert session.shapes == [(2, 3, 384, 640), (1, 3, 96, 96)]
    assert [round(float(faces.boxes[0, 0])) for faces in found] == [80, 40, 120]


def test_a_graph_with_a_fixed_batch_runs_one_by_one_and_a_fixed_canvas_is_filled():
    session = session_finding((40, 40, 80, 96, 0.7))
    spec = make_spec(input={"batch": False, "height_px": 640, "width_px": 640})
    open_detector(spec, session, side_px=320).detect([picture(100, 100)] * 3)
    assert session.shapes == [(1, 3, 640, 640)] * 3


def test_no_pictures_no_run():
    session = session_finding()
    assert open_detector(make_spec(), session, side_px=640).detect([]) == []
    assert session.shapes == []


def test_values_that_are_not_finite_are_no_face():
    def broken(x: np.ndarray) -> list[np.ndarray]:
        maps = centerface_maps(x.shape[2:], [(8, 8, 40, 40, 0.9), (60, 60, 90, 90, 0.8)], batch=len(x))
        maps[1][maps[0][:, 0].repeat(1, 0)[:, None].repeat(2, 1) > 0.85] = 1e9
        return maps

    with np.errstate(over="ignore", invalid="ignore"):
        faces = open_detector(make_spec(), FunctionSession(broken), side_px=640).detect([picture(128, 128)])[0]
    np.testing.assert_allclose(faces.scores, [0.8])


def test_the_threshold_of_the_registry_wins():
    session = session_finding((40, 40, 80, 96, 0.7))
    assert len(open_detector(make_spec(score_threshold=0.8), session, side_px=640).detect([picture(128, 128)])[0]) == 0


def test_an_embedder_is_no_detector():
    with pytest.raises(ModelError, match=r"model test_model: is no detector \(embedder\); choose one of centerface, scrfd, yunet"):
        open_detector(make_spec(architecture="embedder"), session_finding(), side_px=640)


def test_a_graph_with_other_outputs_is_named():
    detector = open_detector(make_spec(), FunctionSession(lambda x: [np.zeros((1, 2), np.float32)]), side_px=640)
    with pytest.raises(ModelError, match="model test_model: is not a centerface graph: expected 4 maps"):
        detector.detect([picture(64, 64)])
