"""Rows of an index: vectors in one of three storages, with their binary and int8 codes, changed in place, never with a hole."""

from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from core.types import F32, U8
from matcher.index import I64, check_slots
from matcher.int8 import BOUNDS, quantise
from matcher.memory import FileTable, MemoryTable, Table
from matcher.rotation import rotated_length

FIRST_CAPACITY: Final = 256  # rows; then half as many more, so that adding one by one costs O(1) each

Storage = Literal["fp32", "fp16", "int8"]
"""Where exact vectors are: in memory as float32; in memory rounded to float16; as float32 in a file, and only codes in memory."""


class Rows:
    """Vectors (n, D), binary codes (n, C) uint8 that the owner fills, and where asked for int8 codes (matcher/int8.py).

    Deleting moves the last row into the hole, so rows stay contiguous. Callers name rows by slot, which a move does not change.
    Thread rule: as VectorIndex.
    """

    def __init__(self, dimensions: int, code_bytes: int, *, int8: bool, storage: Storage = "fp32", directory: Path | None = None) -> None:
        """Args: directory: of the file that storage ``int8`` keeps exact vectors in; None = the system's for temporary files."""
        self._count = 0
        self._storage = storage
        kind = np.float16 if storage == "fp16" else np.float32
        self._vectors: Table = FileTable(dimensions, kind, directory) if storage == "int8" else MemoryTable(dimensions, kind)
        self._codes = MemoryTable(code_bytes, np.uint8)
        self._levels = MemoryTable(rotated_length(dimensions) if int8 else 0, np.uint8)
        self._bounds = MemoryTable(BOUNDS if int8 else 0, np.float32)
        self._slot_of_row = MemoryTable(1, np.int32)
        self._row_of_slot = MemoryTable(1, np.int32)
        self._int8 = int8
        self._slots_made = 0
        self._free: list[int] = []

    def __len__(self) -> int:
        return self._count

    @property
    def vectors(self) -> NDArray[np.float32 | np.float16]:
        """(n, D) view, float16 in that storage; to read, until the next change."""
        view: NDArray[np.float32 | np.float16] = self._vectors.array[: self._count]
        return view

    @property
    def codes(self) -> U8:
        """(n, C) uint8 view; valid until the next change."""
        return self._codes.array[: self._count]

    @property
    def levels(self) -> U8:
        """(n, rotated D) uint8 view of the int8 codes, (n, 0) without; valid until the next change."""
        return self._levels.array[: self._count]

    @property
    def bounds(self) -> F32:
        """(n, BOUNDS) float32 view: each row's scale, error and length (``quantise``), (n, 0) without; valid until the next change."""
        return self._bounds.array[: self._count]

    @property
    def bytes_used(self) -> int:
        """Bytes of all rows in memory with both slot tables, without spare capacity and without what lies in a file."""
        return self._count * (sum(table.row_bytes for table in self._tables()) + self._slot_of_row.row_bytes + self._row_of_slot.row_bytes)

    @property
    def file_bytes(self) -> int:
        """Bytes of the rows in a file."""
        array = self._vectors.array
        return self._count * int(array.itemsize * array.shape[1]) if self._storage == "int8" else 0

    def exact(self, rows: I64) -> F32:
        """Return the exact vectors (m, D) float32 of rows (m,), a copy."""
        found: NDArray[np.float32 | np.float16] = self._vectors.array.take(rows, axis=0)  # three quarters of what indexing costs
        return found if found.dtype == np.float32 else found.astype(np.float32)  # type: ignore[return-value]

    def slots(self, rows: I64) -> I64:
        """Return the slots of rows (any shape)."""
        slots: I64 = self._slot_of_row.array[rows, 0].astype(np.int64)
        return slots

    def rows(self, slots: I64) -> I64:
        """Return the rows of slots. Raises KeyError for a slot without a row."""
        check_slots(slots, self._row_of_slot.array[: self._slots_made, 0])
        rows: I64 = self._row_of_slot.array[slots, 0].astype(np.int64)
        return rows

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all, so that a load of known size moves nothing. Raises UnavailableError (disk full)."""
        for table in (*self._tables(), self._slot_of_row, self._row_of_slot):
            table.reserve(rows)

    def append(self, vectors: F32) -> tuple[I64, I64]:
        """Add vectors (N, D) and return their slots and rows; the binary codes of new rows are zero.

        Raises:
            UnavailableError: the disk is full; nothing was added then.
        """
        first, last = self._count, self._count + len(vectors)
        room = min(len(table.array) for table in (*self._tables(), self._slot_of_row, self._row_of_slot))  # each rounds up by itself
        if last > room:
            self.reserve(max(last, FIRST_CAPACITY, room * 3 // 2))
        rows = np.arange(first, last, dtype=np.int64)
        self.replace(rows, vectors)  # what may fail comes first
        reused = [self._free.pop() for _ in range(min(len(self._free), len(vectors)))]
        slots = np.concatenate([np.array(reused, np.int64), self._new_slots(len(vectors) - len(reused))])
        self._codes.array[first:last] = 0
        self._slot_of_row.array[first:last, 0] = slots
        self._row_of_slot.array[slots, 0] = rows
        self._count = last
        return slots, rows

    def replace(self, rows: I64, vectors: F32) -> None:
        """Overwrite the vectors of rows and their int8 codes, which are those of the vectors as they are kept; binary codes stay.

        Raises:
            UnavailableError: the disk is full.
        """
        self._vectors.write(rows, vectors)
        if self._int8:
            kept = vectors.astype(np.float16).astype(np.float32) if self._storage == "fp16" else vectors
            self._levels.array[rows], self._bounds.array[rows] = quantise(kept)

    def set_codes(self, rows: I64 | slice, codes: U8) -> None:
        """Overwrite the binary codes of rows."""
        self._codes.array[rows] = codes

    def remove(self, slots: I64) -> None:
        """Delete rows; each hole is filled with the last row. Raises KeyError before anything is changed."""
        check_slots(slots, self._row_of_slot.array[: self._slots_made, 0])
        for slot in slots.tolist():
            hole, last = int(self._row_of_slot.array[slot, 0]), self._count - 1
            moved = int(self._slot_of_row.array[last, 0])
            self._slot_of_row.array[hole] = moved
            self._row_of_slot.array[moved] = hole
            self._row_of_slot.array[slot] = -1
            for table in self._tables():
                table.write(np.array([hole]), table.array[last : last + 1])
                table.write(np.array([last]), 0)  # an erased face leaves no copy behind
            self._free.append(slot)
            self._count = last

    def _tables(self) -> tuple[Table, ...]:
        """All that is kept of a face."""
        return self._vectors, self._codes, self._levels, self._bounds

    def _new_slots(self, count: int) -> I64:
        first, self._slots_made = self._slots_made, self._slots_made + count  # never more than the most rows there were at a time
        return np.arange(first, first + count, dtype=np.int64)
