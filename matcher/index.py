"""The port of an index: references by slot, nearest ones by cosine. NumPy is the oracle, FAISS the fast one; one contract for both."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.types import F32

I64 = NDArray[np.int64]


class VectorIndex(Protocol):
    """Unit vectors of one model, in memory. A slot is an index's own name for a row; it stays until the row is deleted.

    Thread rule: searches may run side by side; a change may run beside nothing. The shard's lock sees to that.
    """

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    @property
    def bytes_used(self) -> int:
        """Bytes that the rows occupy, with the index's own tables; spare capacity is not counted."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all, before they come. Raises UnavailableError when there is none."""
        ...

    def add(self, vectors: F32) -> I64:
        """Add rows (N, D) float32 of norm 1 and return their slots (N,). Slots of deleted rows are given again."""
        ...

    def update(self, slots: I64, vectors: F32) -> None:
        """Replace rows in place. Raises KeyError for a slot without a row, before anything is changed."""
        ...

    def delete(self, slots: I64) -> None:
        """Delete rows in place; no search returns them any more. Raises KeyError for a slot without a row, before anything is changed."""
        ...

    def search(self, probes: F32, k: int) -> tuple[I64, F32]:
        """Return the nearest rows of each probe.

        Args:
            probes: (N, D) float32, norm 1.
            k: rows per probe, at least 1.

        Returns:
            Slots (N, m) int64 and scores (N, m) float32, cosine, best first; m = min(k, rows). Equal scores come in any order.
        """
        ...


def check_slots(slots: I64, row_of_slot: I64) -> None:
    """Check that every slot has a row (``row_of_slot`` >= 0) and occurs once.

    Raises:
        KeyError: naming the first slot that has none, or that is there twice.
    """
    for slot in slots:
        if not 0 <= slot < len(row_of_slot) or row_of_slot[slot] < 0:
            raise KeyError(f"slot {slot} has no row")
    if len(np.unique(slots)) != len(slots):
        raise KeyError(f"a slot occurs twice among {len(slots)}")
