"""The int8 search of batches leaves out no row of the true k best, whatever the vectors are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from core.adapters.ort import OrtSession
from core.errors import ModelError
from core.types import F32
from matcher.certified import BLOCK_ROWS, GROUP_ROWS, certified_among, certified_search
from matcher.faiss_index import EXACT_ROWS, FaissIndex
from matcher.int8 import GRAPH, ROW_LEVELS, ZERO_LEVEL, Int8Product, probe_levels, quantise, quantise_probes
from matcher.numpy_index import NumpyIndex
from matcher.rows import Rows
from tests.builders.int8_product import int8_product_model
from tests.builders.matcher import unit_rows

TIE = 1e-6  # scores this near are equal within float32's rounding
LEVELS = (64, 127)
KINDS = ("random", "clustered", "duplicates", "nearly equal", "one huge coordinate", "one coordinate", "with zeros", "leaning", "tiny")
SESSION = OrtSession(GRAPH, provider="cpu", threads=1)


def gallery(kind: str, count: int, dimensions: int, seed: int) -> F32:
    """Return rows (count, dimensions) of norm 1, or less where the kind says so."""
    rng, rows = np.random.default_rng(seed), unit_rows(count, dimensions, seed)
    if kind == "clustered":
        rows = unit_rows(max(count // 5, 1), dimensions, seed)[rng.integers(0, max(count // 5, 1), count)] + rows * np.float32(0.3)
    elif kind == "duplicates":
        rows = rows[rng.integers(0, max(count // 7, 1), count)]
    elif kind == "nearly equal":
        rows = rows[:1] + rows * np.float32(1e-3)
    elif kind == "one huge coordinate":
        rows[rng.random(count) < 0.3, rng.integers(dimensions)] = 30.0
    elif kind == "one coordinate":
        rows = np.eye(dimensions, dtype=np.float32)[rng.integers(0, dimensions, count)]
    elif kind == "leaning":
        rows[:, 0] += 2.2
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if kind == "with zeros":
        rows[rng.random(count) < 0.5] = 0.0
    if kind == "tiny":
        rows *= (10.0 ** rng.uniform(-38, 0, (count, 1))).astype(np.float32)
    return rows.astype(np.float32)


def probes_for(rows: F32, count: int, seed: int) -> F32:
    """Return probes (count, D): rows themselves, views of rows, strangers, and nothing at all."""
    rng, strangers = np.random.default_rng(seed), unit_rows(count, rows.shape[1], seed + 1)
    mix = np.float32([[0.0], [0.4], [3.0], [1000.0]])[np.arange(count) % 4]
    probes = rows[rng.integers(0, len(rows), count)] + strangers * mix
    probes /= np.maximum(np.linalg.norm(probes, axis=1, keepdims=True), 1e-9)
    probes[-1] = 0.0
    return probes


def filled(rows: F32) -> Rows:
    made = Rows(rows.shape[1], 0, int8=True)
    made.append(rows)
    return made


def assert_true_best(oracle: F32, found: np.ndarray, scores: F32, k: int) -> None:
    """``oracle`` (N, n): every score. All that beats the k-th best is found, nothing worse is, and each row once."""
    kth = np.sort(oracle, axis=1)[:, -k]
    for row, (places, its_scores) in enumerate(zip(found, scores, strict=True)):
        assert len(set(places.tolist())) == k
        assert set(np.flatnonzero(oracle[row] > kth[row] + TIE)) <= set(places.tolist())
        assert (oracle[row, places] >= kth[row] - TIE).all()
        np.testing.assert_allclose(its_scores, oracle[row, places], atol=TIE)
        assert (np.diff(its_scores) <= 0).all()


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    count=st.one_of(st.integers(1, 60), st.integers(4 * GROUP_ROWS - 1, 1100), st.integers(BLOCK_ROWS - 1, 3 * BLOCK_ROWS + 40)),
    dimensions=st.sampled_from([1, 2, 16, 48]),
    probes=st.sampled_from([1, 5, 64, 70]),
    k=st.integers(1, 50),
    levels=st.sampled_from(LEVELS),
    seed=st.integers(0, 10_000),
)
def test_no_row_of_the_true_best_is_missing(kind: str, count: int, dimensions: int, probes: int, k: int, levels: int, seed: int) -> None:
    rows, k = gallery(kind, count, dimensions, seed), min(k, count)
    asked = probes_for(rows, probes, seed)
    answer = certified_search(filled(rows), asked, k, Int8Product(SESSION, levels=levels), most_share=1.0)
    assert answer is not None
    found, scores, scored = answer
    assert_true_best(asked @ rows.T, found, scores, k)
    assert k * probes <= scored <= count * probes


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), k=st.integers(1, 50), levels=st.sampled_from(LEVELS), seed=st.integers(0, 10_000))
def test_no_row_of_a_shortlists_best_is_missing(kind: str, k: int, levels: int, seed: int) -> None:
    rows = gallery(kind, 800, 48, seed)
    shortlist = np.random.default_rng(seed).permutation(800)[: k + seed % 500]
    for probe in probes_for(rows, 4, seed):
        found, scores = certified_among(filled(rows), shortlist, probe, k, Int8Product(SESSION, levels=levels))
        places = np.array([np.flatnonzero(shortlist == row)[0] for row in found])
        assert_true_best((rows[shortlist] @ probe)[None], places[None], scores[None], k)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_score_is_farther_from_the_product_than_its_margin(kind: str, levels: int) -> None:
    rows = gallery(kind, 400, 512, 3)
    probes = probes_for(rows, 64, 4)
    codes, (quantised, bounds) = quantise_probes(probes, levels), quantise(rows)
    products = Int8Product(SESSION, levels=levels).products(quantised, codes)
    estimates = products.astype(np.float64) * bounds[:, :1] * codes.scale
    margin = codes.margin(bounds[:, 1:2], bounds[:, 2:])
    exact = rows.astype(np.float64) @ probes.T.astype(np.float64)
    assert (np.abs(estimates - exact) <= margin).all()
    assert (np.abs(estimates - rows @ probes.T) <= margin).all()


def test_a_gallery_of_one_face_is_searched_in_float32() -> None:
    rows, probes = gallery("nearly equal", EXACT_ROWS + 3000, 64, 1), unit_rows(20, 64, 2)
    assert certified_search(filled(rows), probes, 5, Int8Product(SESSION, levels=127)) is None
    index = FaissIndex(64)
    index.add(rows)
    found, scores = index.search(probes, 5)
    assert_true_best(probes @ rows.T, found, scores, 5)
    assert index.rescored == 0


@pytest.mark.parametrize("count", [1, 20], ids=["one probe", "a batch"])
@pytest.mark.parametrize(("row_length", "probe_length"), [(1e25, 1.0), (1.0, 1e25)])
def test_vectors_that_overflow_a_bound_are_searched_in_float32(count: int, row_length: float, probe_length: float) -> None:
    rows, probes = unit_rows(EXACT_ROWS + 500, 64, 1), unit_rows(count, 64, 2)
    index = FaissIndex(64)
    index.add(rows)
    slots = index.add(probes[:1] * np.float32(row_length))
    found, _ = index.search(probes * np.float32(probe_length), 1)
    assert found[0, 0] == slots[0]
    found, _ = certified_among(filled(rows), np.arange(500), probes[0] * np.float32(probe_length), 1, Int8Product(SESSION, levels=127))
    assert found[0] == (rows[:500] @ probes[0]).argmax()


@pytest.mark.parametrize("k", [1, 5, 20, 200])
def test_a_batch_in_a_large_changed_gallery_is_the_oracles(k: int) -> None:
    rows, views = gallery("clustered", 9000, 96, 5), gallery("clustered", 600, 96, 6)
    index, oracle = FaissIndex(96), NumpyIndex(96)
    ours, theirs = index.add(rows), oracle.add(rows)
    index.update(ours[:300], views[:300])
    oracle.update(theirs[:300], views[:300])
    index.delete(ours[250:2000:3])
    oracle.delete(theirs[250:2000:3])
    probes = np.concatenate([views[:40], rows[2500:2560], unit_rows(30, 96, 7)])
    found, scores = index.search(probes, k)
    expected, expected_scores = oracle.search(probes, k)
    np.testing.assert_allclose(scores, expected_scores, atol=TIE)
    to_theirs = dict(zip(ours.tolist(), theirs.tolist(), strict=True))
    for place in range(len(probes)):
        sure = expected_scores[place] > expected_scores[place, -1] + TIE
        assert set(expected[place, sure]) <= {to_theirs[slot] for slot in found[place].tolist()}
    assert index.rescored >= k * len(probes)


@pytest.mark.parametrize("levels", LEVELS)
def test_products_are_exact_where_sixteen_bits_would_saturate(levels: int) -> None:
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((300, 512)) < 0.5, -ROW_LEVELS, ROW_LEVELS)
    probes = np.where(rng.random((64, 512)) < 0.5, -1.0, 1.0).astype(np.float32)
    rows[0], probes[0] = ROW_LEVELS, 1.0
    codes = replace(quantise_probes(probes, levels), levels=(probes.T * levels).astype(np.int8))
    products = Int8Product(SESSION, levels=levels).products((rows + ZERO_LEVEL).astype(np.uint8), codes)
    assert (products == rows @ (probes.T * levels).astype(np.int64)).all()


def test_rows_of_another_length_are_an_error_of_one_line() -> None:
    levels, _ = quantise(unit_rows(4, 8))
    with pytest.raises(ModelError, match=r"int8_product\.onnx: failed to run: .*"):
        Int8Product(SESSION, levels=127).products(levels, quantise_probes(unit_rows(2, 9), 127))


def test_a_processor_that_saturates_gets_probes_whose_products_fit() -> None:
    assert probe_levels("aarch64") == 127
    largest_pair = 2 * (ZERO_LEVEL + ROW_LEVELS) * min(LEVELS)
    assert largest_pair <= np.iinfo(np.int16).max
    assert probe_levels("x86_64") in LEVELS


def test_an_erased_face_leaves_no_code_behind() -> None:
    rows = filled(unit_rows(10, 16))
    expected = quantise(rows.vectors[[0, 1, 9, 3]])
    rows.remove(np.array([2, 4, 5, 6, 7, 8]))
    np.testing.assert_array_equal(rows.levels[[0, 1, 2, 3]], expected[0])
    np.testing.assert_array_equal(rows.bounds[[0, 1, 2, 3]], expected[1])
    for view in (rows.levels, rows.bounds, rows.vectors):
        assert not np.asarray(view.base)[len(rows) :].any()
    assert rows.bytes_used == 4 * (16 * 4 + 16 + 3 * 4 + 2 * 4)


def test_the_graph_file_is_what_its_builder_makes() -> None:
    assert ModelProto.FromString(GRAPH.read_bytes()) == int8_product_model()
