"""Tables of rows that grow in place: in memory, or in a file without a name that only this process can read.

A NumPy array grows by copying: a shard of a million references would stand still for a second and need its memory twice. An anonymous
mapping grows by moving page tables (mremap), and what was never written costs nothing.
"""

import ctypes
import mmap
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from core.errors import UnavailableError

ROUND_BYTES: Final = 2 << 20  # mappings grow by whole huge pages: a scan of a million codes needs fewer address translations
SMALL_BYTES: Final = 64 << 10  # tables up to here are plain arrays: a collection of three people shall not take a huge page


def give_back() -> None:
    """Return to the system what was freed; a call after a load, which frees about as much as it keeps of each part.

    glibc keeps freed memory for the next request, and a shard has none: 95 MB after a load of 100,000 references. Other libraries and
    systems decide for themselves.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Table(Protocol):
    """Rows of one dtype and length. Thread rule: as VectorIndex."""

    @property
    def array(self) -> NDArray[Any]:
        """(capacity, columns): to read; valid until the next ``reserve``."""
        ...

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        ...

    def reserve(self, rows: int) -> None:
        """Make room for at least so many rows; new ones are zero. Raises UnavailableError."""
        ...

    def write(self, rows: "slice | NDArray[np.int64]", values: "NDArray[Any] | int") -> None:
        """Overwrite rows. Raises UnavailableError."""
        ...


class MemoryTable:
    """A Table in anonymous memory."""

    def __init__(self, columns: int, dtype: DTypeLike) -> None:
        self.array: NDArray[Any] = np.zeros((0, columns), dtype)
        self._map: mmap.mmap | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return int(self.array.itemsize * self.array.shape[1])

    def reserve(self, rows: int) -> None:
        """Make room; without a copy where the system can move pages."""
        if rows <= len(self.array):
            return
        size = rows * self.row_bytes
        if size <= SMALL_BYTES:
            self._copy_to(np.zeros((rows, self.array.shape[1]), self.array.dtype))
        else:
            self._grow(-(-size // ROUND_BYTES) * ROUND_BYTES)

    def write(self, rows: "slice | NDArray[np.int64]", values: "NDArray[Any] | int") -> None:
        """Overwrite rows."""
        self.array[rows] = values

    def _grow(self, size: int) -> None:
        columns, dtype = self.array.shape[1], self.array.dtype
        if self._map is not None and sys.platform == "linux":
            self.array = np.zeros((0, columns), dtype)
            with suppress(BufferError):  # somebody holds a view: grown by a copy
                self._map.resize(size)
            self.array = _rows_of(self._map, columns, dtype)
        if len(self.array) * self.row_bytes < size - self.row_bytes:
            fresh = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if sys.platform != "win32" else mmap.mmap(-1, size)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                fresh.madvise(mmap.MADV_HUGEPAGE)
            self._copy_to(_rows_of(fresh, columns, dtype))
            self._map = fresh

    def _copy_to(self, fresh: NDArray[Any]) -> None:
        fresh[: len(self.array)] = self.array
        self.array = fresh


class FileTable:
    """A Table in a file that has no name: read through a mapping, whose pages the system may take back; written by calls.

    The file ends with the process, however that ends. Written by calls and not through the mapping, because a full disk is then an
    error of the call, and no signal that kills the process.
    """

    def __init__(self, columns: int, dtype: DTypeLike, directory: Path | None) -> None:
        """Args: directory: on a disk with room for all rows; None = the system's folder for temporary files.

        Raises:
            UnavailableError: no file can be made there.
        """
        self._directory = directory or Path(tempfile.gettempdir())
        self._dtype = np.dtype(dtype)
        self._columns = columns
        self.array: NDArray[Any] = np.zeros((0, columns), dtype)
        self._file: IO[bytes] | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory: none."""
        return 0

    @property
    def _size(self) -> int:
        return self._columns * self._dtype.itemsize

    def reserve(self, rows: int) -> None:
        """Make room on the disk. Raises UnavailableError when there is none."""
        if rows <= len(self.array):
            return
        size = -(-rows * self._size // ROUND_BYTES) * ROUND_BYTES
        try:
            if self._file is None:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - lives as long as the table
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
            else:
                self._file.truncate(size)
            view = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as err:
            raise self._full(err) from err
        if hasattr(mmap, "MADV_RANDOM"):
            view.madvise(mmap.MADV_RANDOM)  # candidates lie anywhere: reading ahead would read the whole gallery
        self.array = _rows_of(view, self._columns, self._dtype)

    def write(self, rows: "slice | NDArray[np.int64]", values: "NDArray[Any] | int") -> None:
        """Overwrite rows. Raises UnavailableError when the disk does not take them."""
        places = np.arange(*rows.indices(len(self.array))) if isinstance(rows, slice) else rows
        if not len(places) or self._file is None:
            return
        data = np.ascontiguousarray(np.broadcast_to(np.asarray(values, self._dtype), (len(places), self._columns)))
        try:
            if int(places[-1] - places[0]) == len(places) - 1 and (np.diff(places) == 1).all():
                self._write_at(int(places[0]), data)
            else:
                for place, row in zip(places.tolist(), data, strict=True):
                    self._write_at(place, row)
        except OSError as err:
            raise self._full(err) from err

    def _write_at(self, row: int, data: NDArray[Any]) -> None:
        assert self._file is not None
        rest = memoryview(data.data).cast("B")
        offset = row * self._size
        while len(rest):
            written = os.pwrite(self._file.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written

    def _full(self, err: OSError) -> UnavailableError:
        advice = "free space, set data_dir to another disk, or set matcher.storage to fp16"
        return UnavailableError(f"matcher: can't keep embeddings in a file in {self._directory}: {err.strerror}; {advice}")


def _rows_of(mapping: mmap.mmap, columns: int, dtype: DTypeLike) -> NDArray[Any]:
    kind = np.dtype(dtype)
    rows = len(mapping) // (columns * kind.itemsize)
    return np.frombuffer(mapping, kind, rows * columns).reshape(rows, columns)
