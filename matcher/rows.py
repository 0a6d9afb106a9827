"""Rows of an index in contiguous memory: vectors with their binary and int8 codes, changed in place, never with a hole."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.types import F32, U8
from matcher.index import I64, check_slots
from matcher.int8 import BOUNDS, quantise

T = TypeVar("T", bound=np.generic)

FIRST_CAPACITY = 256  # rows; then doubled, so that adding one by one costs O(1) each


class Rows:
    """Vectors (n, D) float32, binary codes (n, C) uint8 that the owner fills, and where asked for int8 codes (matcher/int8.py).

    Deleting moves the last row into the hole, so rows stay contiguous.

    Callers name rows by slot, which a move does not change. Thread rule: as VectorIndex.
    """

    def __init__(self, dimensions: int, code_bytes: int, *, int8: bool) -> None:
        self._count = 0
        self._vectors = np.zeros((0, dimensions), np.float32)
        self._codes = np.zeros((0, code_bytes), np.uint8)
        self._levels = np.zeros((0, dimensions if int8 else 0), np.uint8)
        self._bounds = np.zeros((0, BOUNDS if int8 else 0), np.float32)
        self._slot_of_row = np.zeros(0, np.int64)
        self._row_of_slot = np.zeros(0, np.int64)
        self._slots_made = 0
        self._free: list[int] = []

    def __len__(self) -> int:
        return self._count

    @property
    def vectors(self) -> F32:
        """(n, D) float32 view; valid until the next change."""
        return self._vectors[: self._count]

    @property
    def codes(self) -> U8:
        """(n, C) uint8 view; valid until the next change."""
        return self._codes[: self._count]

    @property
    def levels(self) -> U8:
        """(n, D) uint8 view of the int8 codes, (n, 0) without; valid until the next change."""
        return self._levels[: self._count]

    @property
    def bounds(self) -> F32:
        """(n, BOUNDS) float32 view: each row's scale, error and length (``quantise``), (n, 0) without; valid until the next change."""
        return self._bounds[: self._count]

    @property
    def bytes_used(self) -> int:
        """Bytes of all rows with both slot tables, without spare capacity."""
        return self._count * (sum(int(array.itemsize * array.shape[1]) for array in self._arrays()) + 2 * 8)

    def slots(self, rows: I64) -> I64:
        """Return the slots of rows (any shape)."""
        return self._slot_of_row[rows]

    def rows(self, slots: I64) -> I64:
        """Return the rows of slots. Raises KeyError for a slot without a row."""
        check_slots(slots, self._row_of_slot[: self._slots_made])
        return self._row_of_slot[slots]

    def append(self, vectors: F32) -> tuple[I64, I64]:
        """Add vectors (N, D) and return their slots and rows; the codes of new rows are zero."""
        first, last = self._count, self._count + len(vectors)
        self._reserve(last)
        rows = np.arange(first, last, dtype=np.int64)
        reused = [self._free.pop() for _ in range(min(len(self._free), len(vectors)))]
        slots = np.concatenate([np.array(reused, np.int64), self._new_slots(len(vectors) - len(reused))])
        self._codes[first:last] = 0
        self._slot_of_row[first:last] = slots
        self._row_of_slot[slots] = rows
        self._count = last
        self.replace(rows, vectors)
        return slots, rows

    def replace(self, rows: I64, vectors: F32) -> None:
        """Overwrite the vectors of rows and their int8 codes; the binary codes stay."""
        self._vectors[rows] = vectors
        if self._levels.shape[1]:
            self._levels[rows], self._bounds[rows] = quantise(vectors)

    def remove(self, slots: I64) -> None:
        """Delete rows; each hole is filled with the last row. Raises KeyError before anything is changed."""
        check_slots(slots, self._row_of_slot[: self._slots_made])
        for slot in slots.tolist():
            hole, last = int(self._row_of_slot[slot]), self._count - 1
            moved = self._slot_of_row[last]
            self._slot_of_row[hole] = moved
            self._row_of_slot[moved] = hole
            self._row_of_slot[slot] = -1
            for array in self._arrays():
                array[hole] = array[last]
                array[last] = 0  # an erased face leaves no copy behind
            self._free.append(slot)
            self._count = last

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        """All that is kept of a face."""
        return self._vectors, self._codes, self._levels, self._bounds

    def _new_slots(self, count: int) -> I64:
        first, self._slots_made = self._slots_made, self._slots_made + count  # never more than the most rows there were at a time
        return np.arange(first, first + count, dtype=np.int64)

    def _reserve(self, count: int) -> None:
        if count <= len(self._vectors):
            return
        capacity = max(count, FIRST_CAPACITY, 2 * len(self._vectors) if self._count else 0)
        self._vectors = _grown(self._vectors, capacity, self._count)
        self._codes = _grown(self._codes, capacity, self._count)
        self._levels = _grown(self._levels, capacity, self._count)
        self._bounds = _grown(self._bounds, capacity, self._count)
        self._slot_of_row = _grown(self._slot_of_row, capacity, self._count)
        self._row_of_slot = _grown(self._row_of_slot, capacity, self._slots_made)


def _grown(array: NDArray[T], capacity: int, count: int) -> NDArray[T]:
    grown = np.zeros((capacity, *array.shape[1:]), array.dtype)
    grown[:count] = array[:count]
    return grown
