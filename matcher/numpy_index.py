"""The oracle: every cosine by one matrix product, sorted. Plain enough to be right; the contract tests hold FAISS to it."""

import numpy as np

from core.types import F32, check_array
from matcher.index import I64, check_slots


class NumpyIndex:
    """A VectorIndex that keeps deleted rows as holes. For tests and measurements: a change copies all rows.

    Thread rule: as VectorIndex.
    """

    def __init__(self, dimensions: int) -> None:
        self._vectors = np.zeros((0, dimensions), np.float32)
        self._row_of_slot = np.zeros(0, np.int64)  # slot = row; -1 = hole

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._vectors.shape[1]

    @property
    def bytes_used(self) -> int:
        """Bytes of the living rows and the slot table."""
        return len(self) * self.dimensions * 4 + self._row_of_slot.nbytes

    def __len__(self) -> int:
        return int((self._row_of_slot >= 0).sum())

    def reserve(self, rows: int) -> None:
        """Do nothing: a change copies all rows."""

    def add(self, vectors: F32) -> I64:
        """Append rows; holes are not used again."""
        check_array("vectors", vectors, (None, self.dimensions), np.float32)
        slots = np.arange(len(self._vectors), len(self._vectors) + len(vectors), dtype=np.int64)
        self._vectors = np.concatenate([self._vectors, vectors])
        self._row_of_slot = np.concatenate([self._row_of_slot, slots])
        return slots

    def update(self, slots: I64, vectors: F32) -> None:
        """Replace rows. Raises KeyError."""
        check_array("vectors", vectors, (len(slots), self.dimensions), np.float32)
        check_slots(slots, self._row_of_slot)
        self._vectors[slots] = vectors

    def delete(self, slots: I64) -> None:
        """Turn rows into holes. Raises KeyError."""
        check_slots(slots, self._row_of_slot)
        self._row_of_slot[slots] = -1

    def search(self, probes: F32, k: int) -> tuple[I64, F32]:
        """Compare with every row; equal scores by slot."""
        check_array("probes", probes, (None, self.dimensions), np.float32)
        living = np.flatnonzero(self._row_of_slot >= 0)
        scores = probes @ self._vectors[living].T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return living[order], np.take_along_axis(scores, order, axis=1)
