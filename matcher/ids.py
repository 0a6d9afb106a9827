"""Ids as two 64-bit words, and a table that numbers them: 16 bytes an id and 6 to 16 to find it, where a dict of strings takes 250."""

import uuid
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.errors import MessageError
from matcher.index import I64

Ids = NDArray[np.uint64]
"""(n, 2): the high and the low half of UUIDs."""

EMPTY: Final = -1
LEFT: Final = -2  # a cell whose id was removed: a search goes on behind it
FIRST_CELLS: Final = 16
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: spreads ids that only count upwards (Knuth, vol. 3, 6.4)


def pack_ids(ids: Iterable[str], what: str) -> Ids:
    """Return UUIDs (n, 2).

    Raises:
        MessageError: naming the first that is none.
    """
    try:
        return ids_of_bytes(b"".join(uuid.UUID(one).bytes for one in ids))
    except ValueError as err:
        raise MessageError(f"{what}: an id is no UUID: {err}") from err


def ids_of_bytes(data: bytes) -> Ids:
    """Return UUIDs (n, 2) from 16 bytes each."""
    return np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, 2)


def id_texts(ids: Ids) -> list[str]:
    """Write UUIDs (n, 2) as people and messages have them; all at once, for uuid.UUID takes 2 us for each."""
    digits = np.frombuffer(ids.astype(">u8").tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    letters = np.full((len(ids), 36), ord("-"), np.uint8)
    for at, first, last in ((0, 0, 8), (9, 8, 12), (14, 12, 16), (19, 16, 20), (24, 20, 32)):
        letters[:, at : at + last - first] = digits[:, first:last]
    text = letters.tobytes().decode()
    return [text[at : at + 36] for at in range(0, len(text), 36)]


class IdTable:
    """Numbers by id; open addressing with linear probing. Numbers are the caller's and dense. Thread rule: one caller at a time."""

    def __init__(self) -> None:
        self._ids: Ids = np.zeros((0, 2), np.uint64)
        self._cells = np.full(FIRST_CELLS, EMPTY, np.int32)
        self._count = 0
        self._taken = 0  # cells that are not EMPTY

    def __len__(self) -> int:
        return self._count

    @property
    def bytes_used(self) -> int:
        """Bytes of the ids and the cells, with their spare room."""
        return self._ids.nbytes + self._cells.nbytes

    def ids(self, numbers: I64) -> Ids:
        """Return the ids (n, 2) of numbers (n,)."""
        return self._ids[numbers]

    def find(self, ids: Ids) -> I64:
        """Return the number of each id (n,), -1 where it has none."""
        found = np.full(len(ids), EMPTY, np.int64)
        cells = self._first_cells(ids)
        pending = np.arange(len(ids))
        while len(pending):
            numbers = self._cells[cells[pending]]
            same = (numbers >= 0) & (self._ids[numbers.clip(0)] == ids[pending]).all(axis=1) if self._count else numbers >= 0
            found[pending[same]] = numbers[same]
            pending = pending[~same & (numbers != EMPTY)]
            cells[pending] = (cells[pending] + 1) % len(self._cells)
        return found

    def put(self, ids: Ids, numbers: I64) -> None:
        """Give ids (n, 2) that are not there yet, each once, numbers (n,) that are free."""
        if not len(ids):
            return
        if (most := int(numbers.max()) + 1) > len(self._ids):
            grown = np.zeros((max(most, len(self._ids) * 3 // 2), 2), np.uint64)
            grown[: len(self._ids)] = self._ids
            self._ids = grown
        if 3 * (self._taken + len(ids)) > 2 * len(self._cells):
            self._rehash(self._count + len(ids))
        self._ids[numbers] = ids
        self._enter(ids, numbers)
        self._count += len(ids)

    def remove(self, number: int) -> None:
        """Forget the id of a number that has one."""
        place = int(self._first_cells(self._ids[number][None])[0])
        while self._cells[place] != number:
            place = (place + 1) % len(self._cells)
        self._cells[place] = LEFT
        self._ids[number] = 0
        self._count -= 1

    def _enter(self, ids: Ids, numbers: I64) -> None:
        cells = self._first_cells(ids)
        pending = np.arange(len(ids))
        while len(pending):
            free = pending[self._cells[cells[pending]] < 0]
            self._taken += int((self._cells[np.unique(cells[free])] == EMPTY).sum())
            self._cells[cells[free]] = numbers[free]  # of several that want one cell the last gets it
            pending = pending[self._cells[cells[pending]] != numbers[pending]]
            cells[pending] = (cells[pending] + 1) % len(self._cells)

    def _rehash(self, count: int) -> None:
        """Make cells anew, a quarter to a half of them taken, without those that were left."""
        numbers = self._cells[self._cells >= 0].astype(np.int64)
        size = FIRST_CELLS
        while 2 * count > size:
            size *= 2
        self._cells = np.full(size, EMPTY, np.int32)
        self._taken = 0
        self._enter(self._ids[numbers], numbers)

    def _first_cells(self, ids: Ids) -> I64:
        mixed = (ids[:, 0] ^ (ids[:, 1] * _MIX)) * _MIX
        cells: I64 = (mixed >> np.uint64(32)).astype(np.int64) % len(self._cells)
        return cells
