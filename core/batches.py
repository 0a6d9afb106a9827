"""Batch sizes that a runtime sees again and again, instead of a new shape for each number of faces or frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batch:
    """Items ``start`` to ``stop`` of a list, run as a batch of ``size`` (the rest of it is padding)."""

    start: int
    stop: int
    size: int

    def __len__(self) -> int:
        return self.stop - self.start


def fixed_batches(count: int, sizes: Sequence[int], *, pad: bool) -> Iterator[Batch]:
    """Cut ``count`` items into batches of the given sizes only.

    Without padding the pieces get smaller (7 = 4 + 2 + 1): right on a CPU, where time grows with the items. With padding the last
    piece is filled up (7 runs as 8): right on a GPU, where a second launch costs more than idle lanes.

    Args:
        count: Number of items, >= 0.
        sizes: Ascending, beginning with 1.
        pad: Fill the last batch up to the next size.

    Raises:
        ValueError: when sizes do not begin with 1.
    """
    if not sizes or sizes[0] != 1:
        raise ValueError(f"batch sizes must ascend from 1, got {list(sizes)}")
    start = 0
    while start < count:
        left = count - start
        size = max(size for size in sizes if size <= left)
        if pad and size < min(left, sizes[-1]):
            size = min(size for size in sizes if size >= left)
        stop = start + min(size, left)
        yield Batch(start, stop, size)
        start = stop
