"""Exact search: every cosine, through BLAS. One probe is a matrix-vector product, several are one product in blocks."""

import numpy as np
from numpy.typing import NDArray

from core.types import F32
from matcher.index import I64

BLOCK_ROWS = 1024
"""Rows multiplied at a time. 1024 x 64 scores are 256 KB, which stay in a core's L2 cache while they are compared; measured for
100,000 x 512 and 64 probes on one AVX-512 core: 512 and 1024 rows best, 16384 rows 15 % slower."""
PENDING_PER_PROBE = 64  # candidates kept unsorted per probe before they are cut to k: sorting seldom, in large pieces


def exact_search(vectors: NDArray[np.float32 | np.float16], probes: F32, k: int) -> tuple[I64, F32]:
    """Return the k rows of greatest cosine for each probe.

    NumPy's BLAS and not FAISS's, for it is newer: faiss-cpu 1.15 brings OpenBLAS 0.3.15, which does not know processors made
    after it (2.6 ms of its 4.1 ms per probe would be lost on Sapphire Rapids; docs/matcher.md).

    Args:
        vectors: (n, D) float32 or float16, norm 1, contiguous. BLAS knows no float16: such rows are widened block by block.
        probes: (N, D) float32, norm 1.
        k: at least 1.

    Returns:
        Rows (N, m) int64 and scores (N, m) float32, best first; m = min(k, n). Thread rule: any thread; BLAS runs without the GIL.
    """
    k = min(k, len(vectors))
    if k == 0 or len(probes) == 0:
        return np.zeros((len(probes), k), np.int64), np.zeros((len(probes), k), np.float32)
    if len(probes) == 1:
        rows, scores = top_rows(_scores(vectors, probes[0]), k)
        return rows[None], scores[None]
    return _search_blocks(vectors, probes, k)


def _scores(vectors: NDArray[np.float32 | np.float16], probe: F32) -> F32:
    if vectors.dtype == np.float32:
        whole: F32 = vectors @ probe
        return whole
    scores = np.empty(len(vectors), np.float32)
    for first in range(0, len(vectors), BLOCK_ROWS):
        part = slice(first, first + BLOCK_ROWS)
        np.dot(vectors[part].astype(np.float32), probe, out=scores[part])
    return scores


def top_rows(scores: F32, k: int) -> tuple[I64, F32]:
    """Return the places (k,) of the greatest of scores (n,), and these, best first; 1 <= k <= n."""
    places = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
    places = places[np.argsort(-scores[places], kind="stable")]
    return places, scores[places]


def _search_blocks(vectors: NDArray[np.float32 | np.float16], probes: F32, k: int) -> tuple[I64, F32]:
    """Multiply block by block and keep what beats each probe's k-th best so far: most blocks then keep nothing."""
    block_rows = max(BLOCK_ROWS, k)
    block = np.empty((block_rows, len(probes)), np.float32)
    best = _Best(len(probes), k)
    for first in range(0, len(vectors), block_rows):
        part = vectors[first : first + block_rows].astype(np.float32, copy=False)
        scores = block[: len(part)]
        np.dot(part, probes.T, out=scores)
        best.offer(scores, first)
    return best.result()


class _Best:
    """The k best of each probe over a stream of score blocks (rows x probes)."""

    def __init__(self, probes: int, k: int) -> None:
        self._k = k
        self._floor = np.full(probes, -np.inf, np.float32)
        self._pending = 0
        self._probe: list[I64] = []
        self._row: list[I64] = []
        self._score: list[F32] = []

    def offer(self, scores: F32, first_row: int) -> None:
        if not self._score:  # only the k best of the first block count; the rest would be sorted for nothing
            kth = np.partition(np.ascontiguousarray(scores.T), -self._k, axis=1)[:, -self._k]
            self._floor = np.nextafter(kth, -np.inf, dtype=np.float32)
        better = np.flatnonzero(scores > self._floor)  # flat: numpy finds the places of a 2-D mask five times slower
        if len(better) == 0:
            return
        rows, probes = np.divmod(better, len(self._floor))
        self._probe.append(probes)
        self._row.append(rows + first_row)
        self._score.append(scores[rows, probes])
        self._pending += len(rows)
        if self._pending > (self._k + PENDING_PER_PROBE) * len(self._floor):
            self._cut()

    def result(self) -> tuple[I64, F32]:
        self._cut()
        shape = (len(self._floor), self._k)
        return self._row[0].reshape(shape), self._score[0].reshape(shape)

    def _cut(self) -> None:
        """Keep the k best of each probe, sorted. Each probe has at least k: the first block is that long."""
        probe, row, score = np.concatenate(self._probe), np.concatenate(self._row), np.concatenate(self._score)
        order = np.lexsort((row, -score, probe))
        starts = np.searchsorted(probe[order], np.arange(len(self._floor)))
        keep = order[(starts[:, None] + np.arange(self._k)).ravel()]
        self._probe, self._row, self._score = [probe[keep]], [row[keep]], [score[keep]]
        self._floor = self._score[0].reshape(-1, self._k)[:, -1].copy()
        self._pending = len(keep)
