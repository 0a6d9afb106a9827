"""Sightings in memory, to be found by face: codes, times, places and outcomes by row. No I/O, no clock, no database."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from core.schema import SightingOutcome
from core.types import F32
from matcher.ids import IdTable, id_texts, pack_ids
from matcher.index import I64
from matcher.memory import MemoryTable
from matcher.scan import Bools, Scan
from sightings.record import SeenFace

OUTCOMES: Final[dict[str, int]] = {name: number for number, name in enumerate(get_args(SightingOutcome))}
FIRST_ROWS: Final = 1024
EVICT_SHARE: Final = 0.01  # of a full index at a time, so that finding the oldest is paid seldom


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which sightings are searched; None = all."""

    cameras: frozenset[str] | None = None
    outcomes: frozenset[SightingOutcome] | None = None
    since_s: float | None = None
    """Ended at or after it."""
    until_s: float | None = None
    """Began before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search of the index gave."""

    sighting_ids: list[str]
    """Best first; certain to hold the k best."""
    searched: int
    """Sightings compared with."""
    least: float
    """The threshold."""


class HistoryIndex:
    """The faces of sightings.

    Thread rule: one caller at a time; a search shares its work with the pool it is given. Length, sizes and ``oldest_s`` are read by any.
    """

    def __init__(self, dimensions: int, *, most: int) -> None:
        """Make an empty one that holds up to ``most`` sightings; beyond, the oldest go."""
        self._most = most
        self._scan = Scan(dimensions)
        self._ids = IdTable()  # of which the numbers are rows
        self._first_s = MemoryTable(1, np.float64)
        self._last_s = MemoryTable(1, np.float64)
        self._camera = MemoryTable(1, np.int32)
        self._outcome = MemoryTable(1, np.int8)
        self._revision = MemoryTable(1, np.int64)
        self._mark = MemoryTable(1, np.int32)
        """The pass in which a row was last written; 0 = no sighting is here."""
        self._pass = 1
        self._cameras: dict[str, int] = {}
        self._made = 0
        self._room = 0  # each table rounds up by itself
        self._free: list[int] = []
        self.evicted = 0
        """Sightings left out because there was no room."""
        self.oldest_s: float | None = None
        """Unix time at which the oldest of the sightings began; None without any. Kept up to date, so that any thread may read it."""

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return self._scan.dimensions

    @property
    def bytes_used(self) -> int:
        """Bytes in memory of all rows, with their ids."""
        return self._made * (self._scan.bytes_per_row + sum(table.row_bytes for table in self._tables())) + self._ids.bytes_used

    def begin_pass(self) -> None:
        """Begin to read everything anew: what is not put until ``end_pass`` is gone."""
        self._pass += 1

    def end_pass(self) -> int:
        """Remove what was not put since ``begin_pass``, and return how many that were."""
        mark = self._mark.array[: self._made, 0]
        gone = np.flatnonzero((mark > 0) & (mark < self._pass))
        self._remove_rows(gone)
        return len(gone)

    def put(self, faces: Sequence[SeenFace]) -> None:
        """Add sightings, or replace them where the revision is not older; ids occur once."""
        if not faces:
            return
        ids = pack_ids((face.sighting_id for face in faces), "sighting")
        rows = self._ids.find(ids)
        known = rows >= 0
        revisions = np.array([face.revision for face in faces])
        newer = ~known | (revisions >= self._revision.array[rows.clip(0), 0] if self._made else ~known)
        self._mark.array[rows[known], 0] = self._pass
        new = np.flatnonzero(~known)
        if len(new):
            rows[new] = self._new_rows(len(new))
            self._ids.put(ids[new], rows[new])
        replaced = self._first_s.array[rows[newer & known], 0]
        written = [face for face, take in zip(faces, newer, strict=True) if take]
        self._write(rows[newer], written)
        self._note_oldest(went=replaced, came=[face.first_s for face in written])
        if len(self) > self._most:
            self._evict(len(self) - self._most)

    def remove(self, sighting_ids: Sequence[str]) -> None:
        """Remove sightings; unknown ones are no error."""
        rows = self._ids.find(pack_ids(sighting_ids, "sighting"))
        self._remove_rows(np.unique(rows[rows >= 0]))

    def search(self, probe: F32, k: int, wanted: Wanted, threshold: Callable[[int], float], *, pool: Executor | None = None) -> Found:
        """Find the sightings nearest to a face.

        Args:
            probe: (D,) float32, norm 1.
            k: sightings.
            wanted: which ones.
            threshold: the least cosine, given how many sightings are compared with.
            pool: threads that share the work.
        """
        mask = self._mask(wanted)
        searched = int(np.count_nonzero(mask))
        least = threshold(searched)
        rows, _ = self._scan.near(probe, k, least=least, wanted=mask, pool=pool)
        return Found(sighting_ids=id_texts(self._ids.ids(rows)), searched=searched, least=least)

    def _mask(self, wanted: Wanted) -> Bools:
        mask = self._alive()
        if wanted.since_s is not None:
            mask &= self._last_s.array[: self._made, 0] >= wanted.since_s
        if wanted.until_s is not None:
            mask &= self._first_s.array[: self._made, 0] < wanted.until_s
        if wanted.cameras is not None:
            numbers = [number for name, number in self._cameras.items() if name in wanted.cameras]
            mask &= np.isin(self._camera.array[: self._made, 0], numbers)
        if wanted.outcomes is not None:
            mask &= np.isin(self._outcome.array[: self._made, 0], [OUTCOMES[name] for name in wanted.outcomes])
        return mask

    def _alive(self) -> Bools:
        alive: Bools = self._mark.array[: self._made, 0] > 0
        return alive

    def _write(self, rows: I64, faces: Sequence[SeenFace]) -> None:
        if not len(rows):
            return
        self._scan.write(rows, np.stack([face.embedding for face in faces]))
        self._first_s.array[rows, 0] = [face.first_s for face in faces]
        self._last_s.array[rows, 0] = [face.last_s for face in faces]
        self._camera.array[rows, 0] = [self._cameras.setdefault(face.camera, len(self._cameras)) for face in faces]
        self._outcome.array[rows, 0] = [OUTCOMES[face.outcome] for face in faces]
        self._revision.array[rows, 0] = [face.revision for face in faces]
        self._mark.array[rows, 0] = self._pass

    def _new_rows(self, count: int) -> I64:
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        first, self._made = self._made, self._made + count - len(reused)
        if self._made > self._room:
            self._room = max(self._made, FIRST_ROWS, self._room * 3 // 2)
            self._scan.reserve(self._room)
            for table in self._tables():
                table.reserve(self._room)
        return np.array([*reused, *range(first, self._made)], np.int64)

    def _remove_rows(self, rows: I64) -> None:
        if not len(rows):
            return
        self._mark.array[rows] = 0
        self._scan.erase(rows)
        for row in rows.tolist():
            self._ids.remove(row)
        self._free.extend(rows.tolist())
        self._note_oldest(went=self._first_s.array[rows, 0])

    def _note_oldest(self, *, went: NDArray[np.float64], came: Sequence[float] = ()) -> None:
        """Keep ``oldest_s`` after times went and came: all rows are looked at only when the oldest itself went."""
        if self.oldest_s is not None and len(went) and went.min() <= self.oldest_s:
            alive = self._alive()
            self.oldest_s = float(self._first_s.array[: self._made, 0][alive].min()) if alive.any() else None
        elif came:
            self.oldest_s = min(came) if self.oldest_s is None else min(self.oldest_s, *came)

    def _evict(self, count: int) -> None:
        """Remove the oldest."""
        count = max(count, int(EVICT_SHARE * self._most))
        rows = np.flatnonzero(self._alive())
        oldest = rows[np.argpartition(self._first_s.array[rows, 0], count - 1)[:count]]
        self._remove_rows(oldest)
        self.evicted += count

    def _tables(self) -> tuple[MemoryTable, ...]:
        return self._first_s, self._last_s, self._camera, self._outcome, self._revision, self._mark
