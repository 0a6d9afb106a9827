"""Every row compared with one probe, some rows left out by a mask: int8 codes alone in memory, and a certified answer.

For records that are too many to keep as float32 and are filtered by time and place: no index structure knows those filters, so all
wanted codes are read, which one core does at 13 million rows of 512 a second. Who wants exact cosines computes them for the few rows
that are returned. No vector is in here, only its codes.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.types import F32, check_array
from matcher.index import I64
from matcher.int8 import BOUNDS, Int8Product, ProbeCodes, quantise, quantise_probes
from matcher.memory import MemoryTable
from matcher.rotation import rotated_length

Bools = NDArray[np.bool_]

BLOCK_ROWS: Final = 8192  # 4 MB of codes: decided as a whole whether it is scanned, gathered from or left out
GATHER_SHARE: Final = 0.2  # a row taken out of its block costs five rows read in their order (0.35 and 0.07 us)
PIECE_BLOCKS: Final = 8  # a thread's share at a time


class Scan:
    """Int8 codes of unit vectors by row. Thread rule: searches may run side by side; a change may run beside nothing."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._levels = MemoryTable(rotated_length(dimensions), np.uint8)
        self._bounds = MemoryTable(BOUNDS, np.float32)
        self._product: Int8Product | None = None  # loaded by the first search

    @property
    def bytes_per_row(self) -> int:
        """Bytes in memory of each row."""
        return self._levels.row_bytes + self._bounds.row_bytes

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all."""
        self._levels.reserve(rows)
        self._bounds.reserve(rows)

    def write(self, rows: I64, vectors: F32) -> None:
        """Put vectors (N, D) float32 of norm 1 into rows (N,), for which there is room."""
        check_array("vectors", vectors, (len(rows), self.dimensions), np.float32)
        self._levels.array[rows], self._bounds.array[rows] = quantise(vectors)

    def erase(self, rows: I64) -> None:
        """Overwrite rows with zeros: nothing of a face stays behind."""
        self._levels.array[rows] = 0
        self._bounds.array[rows] = 0

    def near(self, probe: F32, k: int, *, least: float, wanted: Bools, pool: Executor | None = None) -> tuple[I64, F32]:
        """Return every wanted row that may be among the k of greatest cosine that reach ``least``.

        Args:
            probe: (D,) float32, norm 1.
            k: at least 1.
            least: cosine.
            wanted: (n,) which rows count; n rows are looked at.
            pool: threads that share the work.

        Returns:
            Rows (m,) and their estimated cosines (m,), best first. Certain: no other wanted row belongs to the k best, and nobody of the k
            best is missing. m may be more than k where estimates are too near each other to tell.
        """
        check_array("probe", probe, (self.dimensions,), np.float32)
        self._product = self._product or Int8Product.open()
        codes = quantise_probes(probe[None], self._product.levels)
        blocks = [
            slice(first, min(first + BLOCK_ROWS, len(wanted)))
            for first in range(0, len(wanted), BLOCK_ROWS)
            if wanted[first : first + BLOCK_ROWS].any()
        ]
        pieces = [blocks[first : first + PIECE_BLOCKS] for first in range(0, len(blocks), PIECE_BLOCKS)]

        def look(piece: Sequence[slice]) -> tuple[I64, F32, F32]:
            return self._look(piece, codes, wanted, k, least)

        found = list(pool.map(look, pieces) if pool and len(pieces) > 1 else map(look, pieces))
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        rows, estimates, margins = (np.concatenate(parts) for parts in zip(*found, strict=True))
        rows, estimates, _ = _best(rows, estimates, margins, k)
        order = np.argsort(-estimates, kind="stable")
        return rows[order], estimates[order]

    def _look(self, blocks: Sequence[slice], codes: ProbeCodes, wanted: Bools, k: int, least: float) -> tuple[I64, F32, F32]:
        """Return rows, estimates and margins of those in some blocks that may be among the k best."""
        parts = [self._block(block, codes, wanted[block], least) for block in blocks]
        rows, estimates, margins = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return _best(rows, estimates, margins, k)

    def _block(self, block: slice, codes: ProbeCodes, wanted: Bools, least: float) -> tuple[I64, F32, F32]:
        assert self._product is not None
        if np.count_nonzero(wanted) < GATHER_SHARE * len(wanted):
            rows = np.flatnonzero(wanted) + block.start
            levels, bounds = self._levels.array[rows], self._bounds.array[rows]
        else:
            rows, levels, bounds = np.arange(block.start, block.stop), self._levels.array[block], self._bounds.array[block]
        scale, error, length = bounds.T
        estimates = self._product.products(levels, codes)[:, 0] * (scale * codes.scale)
        most = codes.margin(error.max(), length.max())[0]
        near = np.flatnonzero(~(estimates + most < least))  # without a bound (overflow) every comparison is false: all are kept
        near = near[wanted[rows[near] - block.start]]
        margins = codes.margin(error[near], length[near])
        sure = ~(estimates[near] + margins < least)
        return rows[near][sure], estimates[near][sure], margins[sure]


def _best(rows: I64, estimates: F32, margins: F32, k: int) -> tuple[I64, F32, F32]:
    """Leave out what can't be among the k best: k others are better for certain."""
    if len(rows) <= k:
        return rows, estimates, margins
    floor = np.partition(estimates - margins, -k)[-k]
    keep = ~(estimates + margins < floor)
    return rows[keep], estimates[keep], margins[keep]
