"""Exact search of a batch at the price of int8: products with a certified bound first, exact cosines of what may be among the best.

A row whose score can't reach the k-th best lower bound is not among the k best, for certain; every other row is scored in float32.
The answer is the one that ``exact_search`` gives, up to the order of scores equal within float32's rounding.
"""

from itertools import pairwise

import numpy as np

from core.types import F32
from matcher.exact import top_rows
from matcher.index import I64
from matcher.int8 import I32, Int8Product, ProbeCodes, quantise_probes
from matcher.rows import Rows

BLOCK_ROWS = 4096  # 4096 x 64 products are 1 MB, half of a core's L2 cache
GROUP_ROWS = 32
"""The first floors come from the best of each group of so many rows: where the best of k groups reach a score, k rows do. Cheaper than
sorting rows, and hardly lower: two of the k best are seldom in one group."""
GROUPED_BLOCKS = 4  # afterwards a floor rises slowly
BATCH_PROBES = 64
PENDING_PER_PROBE = 96  # rows kept per probe before the floor is raised: sorting seldom, in large pieces
MOST_ROWS = 256  # a probe may leave this many rows to score, or a share of all; with more, float32 at once is as fast
MOST_SHARE = 1 / 32


def certified_search(
    rows: Rows, probes: F32, k: int, product: Int8Product, *, most_share: float = MOST_SHARE
) -> tuple[I64, F32, int] | None:
    """Return the k rows of greatest cosine for each probe.

    Args:
        rows: with int8 codes, at least k.
        probes: (N, D) float32, norm 1.
        k: at least 1.
        product: of whole numbers.
        most_share: give up when more than this share of all rows may be among the best, as a mean over 64 probes.

    Returns:
        Rows (N, k) int64, scores (N, k) float32, best first, and how many rows were scored in float32 for all probes together. None
        when too many rows are too near each other for int8 (a gallery of one face), or so long that a bound overflows: exact_search
        is the way then.
        Thread rule: any thread; the products are computed without the GIL.
    """
    found = np.empty((len(probes), k), np.int64)
    scores = np.empty((len(probes), k), np.float32)
    scored = 0
    for first in range(0, len(probes), BATCH_PROBES):
        part = slice(first, first + BATCH_PROBES)
        near = _Near(quantise_probes(probes[part], product.levels), k, most=int(max(MOST_ROWS, most_share * len(rows), 4 * k)))
        candidates = _candidates(rows, near, product)
        if candidates is None:
            return None
        found[part], scores[part] = _best_of(rows, candidates, probes[part], k)
        scored += len(candidates[0])
    return found, scores, scored


def _best_of(rows: Rows, candidates: tuple[I64, I64], probes: F32, k: int) -> tuple[I64, F32]:
    """Return the k best (N, k) of candidates, rows (m,) in the order of their probes, and of how many rows (N,) each has: k or more."""
    own, counts = candidates
    exact = np.empty(len(own), np.float32)
    for probe, (first, last) in zip(probes, pairwise([0, *np.cumsum(counts).tolist()]), strict=True):
        np.dot(rows.exact(own[first:last]), probe, out=exact[first:last])
    grid = _grid(exact, counts)
    places = np.argpartition(-grid, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(grid, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return own[places + (np.cumsum(counts) - counts)[:, None]], np.take_along_axis(grid, places, axis=1)


def _grid(values: F32, counts: I64) -> F32:
    """Return values (m,), of which each probe has counts (N,), as rows (N, max counts) filled up with -inf."""
    grid = np.full((len(counts), int(counts.max())), -np.inf, np.float32)
    grid[np.arange(grid.shape[1]) < counts[:, None]] = values
    return grid


def certified_among(rows: Rows, shortlist: I64, probe: F32, k: int, product: Int8Product) -> tuple[I64, F32]:
    """Return of a shortlist (n,) of rows, n >= k, the k of greatest cosine to one probe (D,), and their scores, best first.

    Reads a quarter of the bytes that the vectors have: 1.9 ms for 4096 scattered rows of 512 where float32 takes 3.0.
    """
    shortlist = np.sort(shortlist)  # memory is read forwards
    codes = quantise_probes(probe[None], product.levels)
    scale, error, length = rows.bounds[shortlist].T
    estimates = product.products(rows.levels[shortlist], codes)[:, 0] * scale * codes.scale
    margin = codes.margin(error, length)
    floor = np.partition(estimates - margin, -k)[-k]
    near = shortlist[~(estimates + margin < floor)]  # without a bound (overflow) every comparison is false: all are scored
    places, scores = top_rows(rows.exact(near) @ probe, k)
    return near[places], scores


def _candidates(rows: Rows, near: "_Near", product: Int8Product) -> tuple[I64, I64] | None:
    """Return the rows that may be among each probe's k best, probe after probe, and how many each has; None when there are too many."""
    first, last = 0, max(BLOCK_ROWS, near.k)
    while first < len(rows) and not near.too_many:
        near.offer(product.products(rows.levels[first:last], near.probes), rows.bounds[first:last], first)
        first, last = last, last + BLOCK_ROWS
    return near.result()


class _Near:
    """Rows that may be among the k best of each probe, over a stream of blocks of products (rows x probes)."""

    def __init__(self, probes: ProbeCodes, k: int, *, most: int) -> None:
        self.probes = probes
        self.k = k
        self._count = len(probes.scale)
        self._most = most * self._count
        self._buffer = np.empty((max(BLOCK_ROWS, k), self._count), np.float32)
        self._floor = np.full(self._count, -np.inf, np.float32)
        self._group_best: list[F32] = []
        self._margin = np.zeros(self._count, np.float32)
        self._probe: list[I64] = []
        self._row: list[I64] = []
        self._low: list[F32] = []
        self._high: list[F32] = []
        self._pending = 0
        self._cut_above = (k + PENDING_PER_PROBE) * self._count
        self.too_many = False

    def offer(self, products: I32, bounds: F32, first_row: int) -> None:
        """Take the rows of a block (n, N) with their bounds (n, BOUNDS) that reach the floor."""
        scale, error, length = bounds.T
        most = self.probes.margin(error.max(), length.max())
        if not np.isfinite(most).all():  # vectors so far from norm 1 that their squares overflow: no bound
            self.too_many = True
            return
        estimates = self._buffer[: len(products)]
        # The probe's scale is left out until few are left. One pass: half the time of a conversion and a product.
        np.multiply(products, scale[:, None], out=estimates, dtype=np.float32, casting="unsafe")
        if len(self._group_best) < GROUPED_BLOCKS:
            self._raise_floor(estimates, most)
        # All rows are compared with the greatest margin of the block, those that pass then with their own.
        reach = (self._floor - most) / self.probes.scale
        passed = np.flatnonzero(estimates > np.nextafter(reach, -np.inf, dtype=np.float32))  # flat: a 2-D mask takes five times longer
        rows, probes = np.divmod(passed, self._count)
        estimate = estimates.ravel()[passed] * self.probes.scale[probes]
        margin = error[rows] * self.probes.row_error_factor[probes] + length[rows] * self.probes.row_length_factor[probes]
        near = estimate + margin >= self._floor[probes]
        self._keep(probes[near], rows[near] + first_row, (estimate - margin)[near], (estimate + margin)[near])

    def result(self) -> tuple[I64, I64] | None:
        """Return the rows, probe after probe, and how many each probe has, or None when they are too many."""
        if not self.too_many:
            self._cut()
        if self.too_many:
            return None
        return self._row[0], np.bincount(self._probe[0], minlength=self._count)

    def _raise_floor(self, estimates: F32, margin: F32) -> None:
        """Look at one more of the first blocks, (n, N) without the probe's scale; the floor is raised as their number doubles."""
        group = max(1, min(GROUP_ROWS, len(estimates) // (4 * self.k)))
        whole = len(estimates) - len(estimates) % group  # what is left over may be better still, and a floor stays a floor
        self._group_best.append(estimates[:whole].reshape(group, -1, self._count).max(axis=0))
        self._margin = np.maximum(self._margin, margin)
        blocks = len(self._group_best)
        if blocks & (blocks - 1) == 0:
            best = np.ascontiguousarray(np.concatenate(self._group_best).T)
            kth = np.partition(best, -self.k, axis=1)[:, -self.k] * self.probes.scale
            self._floor = np.maximum(self._floor, kth - self._margin)

    def _keep(self, probe: I64, row: I64, low: F32, high: F32) -> None:
        self._probe.append(probe)
        self._row.append(row)
        self._low.append(low)
        self._high.append(high)
        self._pending += len(row)
        if self._pending > self._cut_above:
            self._cut()

    def _cut(self) -> None:
        """Raise each probe's floor to its k-th best lower bound and drop what can't reach it. Each has at least k rows."""
        probe, row = np.concatenate(self._probe), np.concatenate(self._row)
        low, high = np.concatenate(self._low), np.concatenate(self._high)
        order = np.argsort(probe.astype(np.uint8), kind="stable")  # of bytes: a radix sort; the k-th best is then partitioned, not sorted
        probe, row, low, high = probe.take(order), row.take(order), low.take(order), high.take(order)  # 3/4 of what indexing costs
        grid = _grid(low, np.bincount(probe, minlength=self._count))
        self._floor = np.maximum(self._floor, np.partition(grid, -self.k, axis=1)[:, -self.k])
        keep = np.flatnonzero(high >= self._floor.take(probe))
        self._probe, self._row, self._low, self._high = [probe.take(keep)], [row.take(keep)], [low.take(keep)], [high.take(keep)]
        self._pending = len(self._row[0])
        self._cut_above = max(self._cut_above, 2 * self._pending)
        self.too_many = self._pending > self._most
