"""The subjects of a slice, as arrays: a Python object for each would weigh more than its references' int8 codes."""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from matcher.ids import Ids, IdTable
from matcher.index import I64


class People:
    """Subjects by number, as long as they have references. Thread rule: one caller at a time."""

    def __init__(self) -> None:
        self._table = IdTable()
        self._references = np.zeros(0, np.int32)
        self._free: list[int] = []
        self._squares = 0  # sum of squares of _references
        self._total = 0
        self.names: list[str] = []
        """By number; "" where there is no subject."""
        self.expires_s: NDArray[np.float64] = np.zeros(0, np.float64)
        """By number: Unix time from which a subject is not matched; inf = never."""
        self.starts_s: NDArray[np.float64] = np.zeros(0, np.float64)
        """By number: Unix time before which a subject is not matched; -inf = never."""

    def __len__(self) -> int:
        return len(self._table)

    @property
    def references_per_subject(self) -> float:
        """Mean number of references that a subject has, subjects with many counted the more often; 0 without any."""
        return self._squares / self._total if self._total else 0.0

    @property
    def bytes_used(self) -> int:
        """Bytes in memory, names with them."""
        names = sum(map(sys.getsizeof, self.names)) + 8 * len(self.names)
        return self._table.bytes_used + self._references.nbytes + self.expires_s.nbytes + self.starts_s.nbytes + names

    def ids(self, numbers: NDArray[np.int32]) -> Ids:
        """Return the ids (n, 2) of subjects."""
        return self._table.ids(numbers.astype(np.int64))

    def enter(self, ids: Ids, names: Sequence[str], expires_s: NDArray[np.float64], starts_s: NDArray[np.float64]) -> I64:
        """Count a reference for each subject (n, 2), of which several may be one, bring name and validity up to date; return numbers."""
        numbers = self._table.find(ids)
        new = np.flatnonzero(numbers < 0)
        if len(new):
            distinct, place = np.unique(ids[new], axis=0, return_inverse=True)
            given = self._new_numbers(len(distinct))
            self._table.put(distinct, given)
            numbers[new] = given[place.reshape(-1)]
        self._count(numbers, 1)
        self.expires_s[numbers] = expires_s
        self.starts_s[numbers] = starts_s
        for number, name in zip(numbers.tolist(), names, strict=True):
            self.names[number] = name
        return numbers

    def leave(self, numbers: I64) -> None:
        """Count a reference less for each subject; who has none left is forgotten."""
        if not len(numbers):
            return
        self._count(numbers, -1)
        for number in np.unique(numbers).tolist():
            if self._references[number] == 0:
                self._table.remove(number)
                self.names[number] = ""
                self._free.append(number)

    def _count(self, numbers: I64, step: int) -> None:
        touched = np.unique(numbers)
        before = int((self._references[touched].astype(np.int64) ** 2).sum())
        np.add.at(self._references, numbers, step)
        self._squares += int((self._references[touched].astype(np.int64) ** 2).sum()) - before
        self._total += step * len(numbers)

    def _new_numbers(self, count: int) -> I64:
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        first = len(self.names)
        self.names.extend([""] * (count - len(reused)))
        if len(self.names) > len(self.expires_s):
            room = max(len(self.names), len(self.expires_s) * 3 // 2)
            self.starts_s = np.concatenate([self.starts_s, np.zeros(room - len(self.starts_s))])
            self.expires_s = np.concatenate([self.expires_s, np.zeros(room - len(self.expires_s))])
            self._references = np.concatenate([self._references, np.zeros(room - len(self._references), np.int32)])
        return np.array([*reused, *range(first, len(self.names))], np.int64)
