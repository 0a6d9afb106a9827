"""The index of sightings of this process: filled from the database, followed, and searched. The database has the last word."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from api.history.index import Found, HistoryIndex, Wanted
from core.errors import UnavailableError
from core.events import event_bounds, follow_events
from core.metrics import Metrics
from core.ports import Database
from core.types import F32
from sightings.record import StoredSighting
from sightings.store import SightingStore

T = TypeVar("T")
RETRY_S = 1.0
SCAN_THREADS = 4  # more are slowed by memory
SPARE = 8  # sightings beyond those wanted: some may be gone by the time they are read
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A sighting and how near it is to the face asked for."""

    stored: StoredSighting
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a search of the past gave."""

    matches: list[Match]
    """Best first."""
    more: bool
    """Others reach the threshold too."""
    searched: int
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of the record can be searched."""

    complete: bool
    indexed: int
    total: int
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class Threads:
    """Where the index is changed and searched."""

    index: ThreadPoolExecutor
    """One: changes and searches take turns."""
    scan: ThreadPoolExecutor
    """Share a search."""

    @classmethod
    def start(cls) -> "Threads":
        """Return threads; the caller ends them."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        scan = ThreadPoolExecutor(min(cores, SCAN_THREADS), thread_name_prefix="history-scan")
        return cls(ThreadPoolExecutor(1, thread_name_prefix="history"), scan)


class History:
    """Searches the past. Made by ``open_history``. Thread rule: one event loop; the index has a thread of its own."""

    def __init__(
        self, *, db: Database, store: SightingStore, index: HistoryIndex, model: str, most: int, metrics: Metrics, threads: Threads
    ) -> None:
        self._db = db
        self._store = store
        self._index = index
        self._model = model
        self._most = most
        self._metrics = metrics
        self._threads = threads
        self._loaded = False
        self._total = 0
        self._gone: set[str] = set()
        """Sightings that went while everything is read anew: a page that was read before must not bring them back."""

    @property
    def dimensions(self) -> int:
        """Length of an embedding of the model in use."""
        return self._index.dimensions

    async def run(self) -> None:
        """Read the record and follow it, until cancelled; after a loss of the database, again. What is there answers meanwhile."""
        while True:
            try:
                _, newest = await event_bounds(self._db)
                async with aclosing(follow_events(self._db, newest)) as pages, asyncio.TaskGroup() as group:
                    loading = group.create_task(self.load(), name="history.load")
                    async for events in pages:
                        await self._follow([event.key for event in events if event.kind == "sighting"])
                    loading.cancel()
            except* UnavailableError as failed:
                _log.warning("the history can't be followed, trying again", reason=str(failed.exceptions[0]))
            self._loaded = False
            await asyncio.sleep(RETRY_S)

    async def load(self) -> None:
        """Read the whole record, newest first; what is gone since the last time is removed.

        Raises:
            UnavailableError: what was read so far can be searched.
        """
        self._gone.clear()
        self._total = await self._store.count_faces(self._model)
        await self._call(self._index.begin_pass)
        async for page in self._store.stream_faces(self._model, limit=self._most):
            await self._call(self._index.put, [face for face in page if face.sighting_id not in self._gone])
            self._note_size()
        await self._call(self._index.end_pass)
        self._gone.clear()
        self._loaded = True
        self._note_size()

    def coverage(self) -> Coverage:
        """Tell how much can be searched."""
        indexed = len(self._index)
        whole = self._loaded and self._total <= self._most and not self._index.evicted
        return Coverage(
            complete=whole, indexed=indexed, total=indexed if whole else max(self._total, indexed), oldest_s=self._index.oldest_s
        )

    async def search(self, probe: F32, wanted: Wanted, *, limit: int, threshold: Callable[[int], float]) -> Answered:
        """Find the sightings of a face, best first, as the database has them now.

        Args:
            probe: (D,) float32, norm 1, of the model in use.
            wanted: which sightings.
            limit: most matches.
            threshold: the least cosine, given how many sightings are compared with.

        Raises:
            UnavailableError: the database does not answer.
        """
        while True:
            found: Found = await self._call(self._index.search, probe, limit + SPARE, wanted, threshold, pool=self._threads.scan)
            faces = await self._store.faces(found.sighting_ids)
            there = {face.sighting_id for face in faces}
            gone = [key for key in found.sighting_ids if key not in there]
            if not gone:
                break
            await self._remove(gone)  # others may have been crowded out by them
        scores = {face.sighting_id: float(face.embedding @ probe) for face in faces if face.model == self._model}
        best = sorted((key for key, score in scores.items() if score >= found.least), key=lambda key: (-scores[key], key))
        stored = await self._store.listed(best[:limit])
        matches = [Match(stored=one, score=scores[one.sighting.sighting_id]) for one in stored]
        return Answered(matches=matches, more=len(best) > limit, searched=found.searched, threshold=found.least)

    async def _follow(self, sighting_ids: Sequence[str]) -> None:
        faces = await self._store.faces(sighting_ids)
        there = {face.sighting_id for face in faces}
        await self._remove([key for key in sighting_ids if key not in there])
        await self._call(self._index.put, [face for face in faces if face.model == self._model])
        self._note_size()

    async def _remove(self, sighting_ids: Sequence[str]) -> None:
        self._gone.update(sighting_ids if not self._loaded else ())
        await self._call(self._index.remove, sighting_ids)

    async def _call(self, work: Callable[..., T], *args: object, **more: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads.index, lambda: work(*args, **more))

    def _note_size(self) -> None:
        self._metrics.history_sightings.set(len(self._index))
        self._metrics.history_bytes.set(self._index.bytes_used)


@asynccontextmanager
async def open_history(
    db: Database, store: SightingStore, *, model: str, dimensions: int, most: int, metrics: Metrics
) -> AsyncIterator[History]:
    """Yield an empty history, with threads of its own; ``run`` fills it.

    Args:
        db: for notes of changes.
        store: of sightings.
        model: the embedder in use: faces of others are left out.
        dimensions: of its embeddings.
        most: sightings in memory; beyond, the oldest are left out.
        metrics: of the process.
    """
    threads = Threads.start()
    try:
        index = HistoryIndex(dimensions, most=most)
        yield History(db=db, store=store, index=index, model=model, most=most, metrics=metrics, threads=threads)
    finally:
        for pool in (threads.index, threads.scan):
            pool.shutdown(wait=True, cancel_futures=True)
