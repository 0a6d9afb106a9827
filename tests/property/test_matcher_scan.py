"""A scan of codes with a mask against the oracle: every cosine."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import F32
from matcher.scan import BLOCK_ROWS, PIECE_BLOCKS, Scan


def crowded(rng: np.random.Generator, rows: int, dimensions: int) -> F32:
    """Unit vectors of few people, many of them nearly alike."""
    people = rng.standard_normal((max(1, rows // 50), dimensions))
    vectors = people[rng.integers(0, len(people), rows)] + rng.standard_normal((rows, dimensions)) * rng.choice([1e-4, 0.1, 1.0])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def scan_of(vectors: F32) -> Scan:
    scan = Scan(vectors.shape[1])
    scan.reserve(len(vectors))
    scan.write(np.arange(len(vectors)), vectors)
    return scan


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 3000),
    k=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.01, 0.15, 0.5, 1.0]),
    least=st.sampled_from([-1.0, 0.2, 0.6, 0.99]),
)
def test_nobody_of_the_k_best_that_are_wanted_is_missing(seed: int, rows: int, k: int, share: float, least: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = crowded(rng, rows + 1, 32)
    probe, vectors = vectors[0], vectors[1:]
    wanted = rng.random(rows) < share
    exact = vectors @ probe
    best = [row for row in np.argsort(-exact, kind="stable") if wanted[row] and exact[row] >= least][:k]
    found, estimates = scan_of(vectors).near(probe, k, least=least, wanted=wanted)
    assert set(best) <= set(found.tolist())
    assert wanted[found].all()
    assert (np.diff(estimates) <= 0).all()
    np.testing.assert_allclose(estimates, exact[found], atol=0.02)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_threads_and_blocks_change_nothing(share: float) -> None:
    rng = np.random.default_rng(7)
    vectors = crowded(rng, BLOCK_ROWS * (PIECE_BLOCKS + 1) + 13, 16)
    wanted = rng.random(len(vectors)) < share
    wanted[:BLOCK_ROWS] = False
    scan = scan_of(vectors)
    alone = scan.near(vectors[5], 20, least=0.3, wanted=wanted)
    with ThreadPoolExecutor(2) as pool:
        together = scan.near(vectors[5], 20, least=0.3, wanted=wanted, pool=pool)
    np.testing.assert_array_equal(alone[0], together[0])
    np.testing.assert_array_equal(alone[1], together[1])
    exact = np.where(wanted, vectors @ vectors[5], -np.inf)
    assert set(np.argsort(-exact, kind="stable")[:20].tolist()) <= set(alone[0].tolist())


def test_an_erased_row_leaves_nothing_behind() -> None:
    rng = np.random.default_rng(1)
    scan = scan_of(crowded(rng, 10, 16))
    scan.erase(np.array([3]))
    found, estimates = scan.near(crowded(rng, 1, 16)[0], 10, least=-1.0, wanted=np.ones(10, bool))
    assert estimates[found == 3].tolist() == [0.0]
