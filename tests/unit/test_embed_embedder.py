"""The embedder over in-memory sessions: batches, colour order, guards."""

import cv2
import numpy as np
import pytest

from core.errors import ModelError
from embed.align import TEMPLATES
from embed.embedder import Embedder
from tests.builders.models import FunctionSession, make_embedder_spec


def grey_chips(*levels: int) -> np.ndarray:
    return np.stack([np.full((112, 112, 3), level, np.uint8) for level in levels])


def corner_values(x: np.ndarray) -> list[np.ndarray]:
    """Embedding = the first pixel's three values and a 1."""
    return [np.concatenate([x[:, :, 0, 0], np.ones((len(x), 1), np.float32)], axis=1)]


@pytest.mark.parametrize(("provider", "sizes"), [("cpu", [2] * 18 + [1]), ("cuda", [32, 8])])
def test_batches_have_fixed_sizes_and_each_chip_its_row(provider: str, sizes: list[int]):
    session = FunctionSession(corner_values, provider=provider)
    found = Embedder(make_embedder_spec(), session).embed(grey_chips(*range(1, 38)))
    assert [shape[0] for shape in session.shapes] == sizes
    np.testing.assert_allclose(found.vectors[:, 0] * found.norms, np.arange(1, 38), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-6)
    assert found.model == "test_model"


@pytest.mark.parametrize(("colour", "order"), [("rgb", [0, 1, 2]), ("bgr", [2, 1, 0])])
def test_pixels_reach_the_model_in_its_colours_and_scale(colour: str, order: list[int]):
    chips = np.broadcast_to(np.array([10, 20, 30], np.uint8), (1, 112, 112, 3)).copy()
    seen: list[np.ndarray] = []
    session = FunctionSession(lambda x: [seen.append(x.copy()) or np.ones((1, 4), np.float32)])
    Embedder(make_embedder_spec(input={"colour": colour, "mean": 127.0, "scale": 1 / 128}), session).embed(chips)
    want = (np.array([10, 20, 30], np.float32)[order] - 127) / 128
    np.testing.assert_array_equal(seen[0], np.broadcast_to(want[None, :, None, None], (1, 3, 112, 112)))


def test_no_chips_no_run():
    session = FunctionSession(corner_values)
    found = Embedder(make_embedder_spec(), session).embed(np.zeros((0, 112, 112, 3), np.uint8))
    assert found.vectors.shape == (0, 4)
    assert session.shapes == []


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -np.inf])
def test_an_output_without_direction_matches_nothing(bad: float):
    def outputs(x: np.ndarray) -> list[np.ndarray]:
        rows = np.ones((len(x), 4), np.float32)
        rows[0] = bad
        return [rows]

    found = Embedder(make_embedder_spec(), FunctionSession(outputs)).embed(grey_chips(1, 2))
    np.testing.assert_array_equal(found.vectors, [[0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(found.norms, [0, 2])


def test_a_graph_with_a_fixed_batch_runs_one_by_one():
    session = FunctionSession(corner_values)
    Embedder(make_embedder_spec(input={"batch": False}), session).embed(grey_chips(1, 2, 3))
    assert [shape[0] for shape in session.shapes] == [1, 1, 1]


def test_a_wrong_output_length_is_named():
    session = FunctionSession(lambda x: [np.ones((len(x), 128), np.float32)])
    with pytest.raises(ModelError, match="model test_model: expected output 1x4, got 1x128"):
        Embedder(make_embedder_spec(), session).embed(grey_chips(1))


def test_a_detector_is_no_embedder():
    with pytest.raises(ModelError, match="model test_model: is no embedder"):
        Embedder(make_embedder_spec(template=None), FunctionSession(corner_values))


def test_an_input_that_is_not_the_templates_is_named():
    with pytest.raises(ModelError, match="template dlib150 makes 150 px chips, but its input is 112x112"):
        Embedder(make_embedder_spec(template="dlib150"), FunctionSession(corner_values))


def test_chips_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="chips: expected Nx112x112x3 uint8, got 1x150x150x3 uint8"):
        Embedder(make_embedder_spec(), FunctionSession(corner_values)).embed(np.zeros((1, 150, 150, 3), np.uint8))


def scene(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random picture with the landmarks of two faces."""
    image = cv2.resize(np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
    points = TEMPLATES["arcface112"].points
    marks = np.stack([points * size + corner for size, corner in ((1.0, (40, 50)), (0.6, (210, 120)))])
    return np.asarray(image, np.uint8), marks.astype(np.float32)


def layout_values(x: np.ndarray) -> list[np.ndarray]:
    """Embedding = the brightness of four quarters: mirroring and reach both change it."""
    return [np.stack([x[:, :, a : a + 56, b : b + 56].mean(axis=(1, 2, 3)) for a in (0, 56) for b in (0, 56)], axis=1)]


def four_views(session: FunctionSession) -> Embedder:
    return Embedder(make_embedder_spec(template="arcface112_loose", input={"mean": 127.0}), session)


def test_a_photos_embedding_is_the_mean_of_its_views():
    embedder = four_views(FunctionSession(layout_values))
    image, landmarks = scene()
    views = embedder.views(image, landmarks)
    assert views.shape == (2, 4, 112, 112, 3)
    found = embedder.embed_views(views)
    each = [embedder.embed(chips) for chips in views]
    for face, of in enumerate(each):
        want = of.vectors.mean(axis=0)
        np.testing.assert_allclose(found.vectors[face], want / np.linalg.norm(want), rtol=1e-5)
        np.testing.assert_allclose(found.norms[face], of.norms.mean(), rtol=1e-5)


def test_a_mirrored_photo_has_the_same_views_and_so_nearly_the_same_embedding():
    embedder = four_views(FunctionSession(layout_values))
    image, landmarks = scene()
    other = (landmarks * [-1, 1] + [399, 0]).astype(np.float32)[:, [1, 0, 2, 4, 3]]
    mirrored = np.ascontiguousarray(image[:, ::-1])
    scores = [
        (embed(image, landmarks) * embed(mirrored, other)).sum(axis=1)
        for embed in (
            lambda i, m: embedder.embed_views(embedder.views(i, m)).vectors,
            lambda i, m: embedder.embed(embedder.chips(i, m)).vectors,
        )
    ]
    assert scores[0].min() > 0.99
    assert scores[1].min() < 0.9


def test_a_shot_is_one_chip_and_one_run():
    session = FunctionSession(layout_values)
    embedder = four_views(session)
    chips = embedder.chips(*scene())
    assert chips.shape == (2, 112, 112, 3)
    embedder.embed(chips)
    assert sum(shape[0] for shape in session.shapes) == 2


def test_a_view_without_a_direction_counts_for_nothing():
    def outputs(x: np.ndarray) -> list[np.ndarray]:
        level = x[:, 0, 0, 0]
        return [np.where(level[:, None] > 0, np.eye(4, dtype=np.float32)[level.astype(int) % 4], np.nan)]

    views = np.stack([grey_chips(0, 1), grey_chips(1, 1), grey_chips(0, 0)])
    found = Embedder(make_embedder_spec(), FunctionSession(outputs)).embed_views(views)
    np.testing.assert_array_equal(found.vectors, [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.norms, [0.5, 1, 0])


def test_no_faces_in_a_photo_no_run():
    session = FunctionSession(layout_values)
    embedder = four_views(session)
    found = embedder.embed_views(embedder.views(scene()[0], np.zeros((0, 5, 2), np.float32)))
    assert (found.vectors.shape, found.norms.shape, session.shapes) == ((0, 4), (0,), [])


def test_views_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="views: expected NxNx112x112x3 uint8, got 2x112x112x3 uint8"):
        four_views(FunctionSession(layout_values)).embed_views(grey_chips(1, 2))
