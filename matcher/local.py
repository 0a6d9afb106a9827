"""A shard in this process: the in-process adapter of ShardPort. The event loop meets the shard here and nowhere else."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from threadpoolctl import threadpool_limits

from core.errors import UnavailableError
from core.metrics import Metrics
from core.schema import GalleryChange, ProbeBatch, ShardAnswer
from core.topology import ShardId
from matcher.gallery import Gallery
from matcher.shard import Shard

T = TypeVar("T")
_log = structlog.get_logger(__name__)
MAX_WAITING = 256
"""Searches that may wait for the executor: at 1 ms each, four times fewer than a deadline of one second allows."""
DAMAGED_LOGGED = 20  # references named at a time; the metric counts all


@asynccontextmanager
async def open_local_shard(
    shard: Shard, *, metrics: Metrics | None = None, now_s: Callable[[], float] = time.time
) -> AsyncIterator["LocalShard"]:
    """Run a shard on one thread of its own, and keep this process's BLAS to one thread meanwhile.

    BLAS shares a product over all cores and waits for the slowest; where decoders and models keep the cores busy, 64 probes against
    100,000 references took 1.4 to 1.9 s on two BLAS threads and 0.2 to 0.4 s on one.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix=f"shard-{shard.shard}")
    with threadpool_limits(1, user_api="blas"):
        try:
            yield LocalShard(shard, executor, metrics=metrics or Metrics(), now_s=now_s)
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


class LocalShard:
    """A ShardPort over a Shard. Made by ``open_local_shard``. Thread rule: one event loop."""

    def __init__(self, shard: Shard, executor: ThreadPoolExecutor, *, metrics: Metrics, now_s: Callable[[], float]) -> None:
        self._shard = shard
        self._executor = executor
        self._metrics = metrics
        self._now_s = now_s
        self._label = ShardId(shards_total=shard.shards_total, shard=shard.shard).label
        self._waiting = 0
        self._references = 0
        self._collections: set[str] = set()
        self._told_damaged: set[tuple[str, str]] = set()
        self._changed = asyncio.Condition()

    @property
    def generation(self) -> int:
        """The last change that searches see; -1 before the first load."""
        return self._shard.generation

    @property
    def references(self) -> int:
        """References in memory when the gallery last changed, over all collections and models."""
        return self._references

    @property
    def buckets(self) -> range:
        """Which part of the gallery is this shard's."""
        return self._shard.buckets

    def empty_gallery(self) -> Gallery:
        """Return an empty gallery to fill for ``replace``."""
        return self._shard.empty_gallery()

    def owns(self, subject_id: str) -> bool:
        """Return whether a subject's references belong to this shard."""
        return self._shard.owns(subject_id)

    async def ask(self, batch: ProbeBatch) -> ShardAnswer:
        """Search.

        Raises:
            UnavailableError: before the first load, and when too many searches wait already. MessageError: see Shard.search.
        """
        if self._shard.generation < 0:
            raise UnavailableError(f"shard {self._shard.shard}: the gallery is not loaded yet; try again in a moment")
        if self._waiting >= MAX_WAITING:
            raise UnavailableError(f"shard {self._shard.shard}: {self._waiting} searches are waiting; add shards or cores")
        self._waiting += 1
        try:
            return await self._run(lambda: self._search(batch))
        finally:
            self._waiting -= 1

    async def apply(self, *changes: GalleryChange) -> None:
        """Apply changes, see Shard.apply. Raises GenerationGapError, MessageError, UnavailableError."""
        try:
            await self._run(lambda: self._shard.apply(*changes))
        finally:
            await self._tell()

    async def replace(self, gallery: Gallery, generation: int) -> None:
        """Take a complete gallery into use."""
        await self._run(lambda: self._shard.replace(gallery, generation))
        await self._tell()

    def tell_load(self, seconds: float) -> None:
        """Say how long a load took."""
        self._metrics.gallery_load_seconds.labels(self._label).set(seconds)

    async def wait_generation(self, generation: int, timeout_s: float) -> None:
        """Return once searches see this generation of the gallery.

        Raises:
            UnavailableError: when they do not within timeout_s.
        """
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._shard.generation >= generation)
        except TimeoutError as err:
            text = (
                f"shard {self._shard.shard}: at generation {self.generation} of the gallery, {generation} not seen within {timeout_s:g} s"
            )
            raise UnavailableError(text) from err

    async def run(self, work: Callable[[], T]) -> T:
        """Run work of the shard's owner (filling a gallery) on the shard's thread, in turn with its searches."""
        return await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _search(self, batch: ProbeBatch) -> ShardAnswer:
        started_s = time.thread_time()
        try:
            with self._metrics.match_seconds.labels(self._label).time():
                return self._shard.search(batch, self._now_s())
        finally:
            self._metrics.match_cpu.labels(self._label).inc(time.thread_time() - started_s)

    async def _tell(self) -> None:
        self._metrics.gallery_generation.labels(self._label).set(self.generation)
        sizes = self._shard.sizes()
        self._references = sum(sizes.values())
        self._collections |= sizes.keys()
        for collection in self._collections:
            self._metrics.gallery_references.labels(collection, self._label).set(sizes.get(collection, 0))
        self._tell_damaged()
        async with self._changed:
            self._changed.notify_all()

    def _tell_damaged(self) -> None:
        """Count what is left out, and log each once."""
        damaged = self._shard.damaged()
        self._metrics.gallery_damaged.labels(self._label).set(len(damaged))
        new = [key for key in damaged if key not in self._told_damaged]
        for reference_id, model in new[:DAMAGED_LOGGED]:
            _log.error("embedding left out: embed it again", reference=reference_id, model=model, problem=damaged[reference_id, model])
        if len(new) > DAMAGED_LOGGED:
            _log.error("more embeddings left out", count=len(new) - DAMAGED_LOGGED)
        self._told_damaged = set(damaged)
