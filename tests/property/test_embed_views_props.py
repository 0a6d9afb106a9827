"""Averaging the views of a photo's faces."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from embed.embedder import Embedder
from tests.builders.models import FunctionSession, make_embedder_spec

LEVELS = arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.integers(0, 255))
"""The grey level of each view of each face."""


def turning(x: np.ndarray) -> list[np.ndarray]:
    """Embedding = a direction that turns with the view's grey level."""
    angles = x[:, 0, 0, 0] / 100
    return [np.stack([np.cos(angles), np.sin(angles), angles, np.ones_like(angles)], axis=1)]


def embedder() -> Embedder:
    return Embedder(make_embedder_spec(), FunctionSession(turning))


def views_of(levels: np.ndarray) -> np.ndarray:
    return np.broadcast_to(levels[:, :, None, None, None], (*levels.shape, 112, 112, 3)).copy()


@given(LEVELS, st.randoms(use_true_random=False))
def test_the_order_of_views_does_not_matter(levels, random):
    order = list(range(levels.shape[1]))
    random.shuffle(order)
    one, other = (embedder().embed_views(views_of(each)) for each in (levels, levels[:, order]))
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-6)
    np.testing.assert_allclose(one.norms, other.norms, rtol=1e-5)


@given(LEVELS)
def test_each_face_has_norm_one_and_knows_nothing_of_the_others(levels):
    together = embedder().embed_views(views_of(levels)).vectors
    alone = [embedder().embed_views(views_of(face[None])).vectors[0] for face in levels]
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-6)
