"""A shard: its share of the gallery in memory, with the generation it is at. Pure: no clock, no asyncio, no I/O."""

import threading
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from core.errors import MessageError
from core.schema import GalleryChange, ProbeBatch, ShardAnswer
from core.types import F32, check_array
from matcher.buckets import bucket_of, buckets_of
from matcher.faiss_index import FaissIndex
from matcher.gallery import Gallery, NewIndex, ReferenceRow
from matcher.rows import Storage

MAX_K = 1000  # subjects per probe; more is a listing, not a search


class GenerationGapError(Exception):
    """Changes are missing between what the shard has and what it was given: load it again from the database."""


class Shard:
    """A slice of the gallery: all subjects whose bucket is this shard's.

    Thread rule: any thread. One lock is held by a search and by a change, so a search sees all of a change or none of it; searches
    come one after another (each uses its core fully). Never call it on an event loop: LocalShard runs it in one executor.
    """

    def __init__(
        self,
        *,
        shard: int = 0,
        shards_total: int = 1,
        storage: Storage = "fp32",
        directory: Path | None = None,
        new_index: NewIndex | None = None,
    ) -> None:
        """Make an empty shard.

        Args:
            shard: which, from 0.
            shards_total: of how many.
            storage: how exact embeddings are kept, see matcher/rows.py.
            directory: where storage ``int8`` keeps its file, on a disk; None = the system's folder for temporary files.
            new_index: instead of the index of that storage.

        Raises:
            ValueError: there is no such shard.
        """
        self.shard = shard
        self.shards_total = shards_total
        self.buckets = buckets_of(shard, shards_total)
        self._new_index = new_index or partial(FaissIndex, storage=storage, directory=directory)
        self._lock = threading.Lock()
        self._gallery = self.empty_gallery()
        self._generation = -1

    @property
    def generation(self) -> int:
        """The last change that searches see; -1 before the first load."""
        return self._generation

    def owns(self, subject_id: str) -> bool:
        """Return whether a subject's references belong to this shard. Raises MessageError when the id is no UUID."""
        return bucket_of(subject_id) in self.buckets

    def empty_gallery(self) -> Gallery:
        """Return an empty gallery to fill beside the one in use, for ``replace``."""
        return Gallery(self._new_index)

    def load(self, rows: Iterable[ReferenceRow], generation: int) -> None:
        """Replace everything by these rows; searches see the old gallery until the new one is complete."""
        gallery = self.empty_gallery()
        gallery.put(row for row in rows if self.owns(row.subject_id))
        self.replace(gallery, generation)

    def replace(self, gallery: Gallery, generation: int) -> None:
        """Take a complete gallery of a generation into use."""
        with self._lock:
            self._gallery = gallery
            self._generation = generation

    def apply(self, *changes: GalleryChange) -> None:
        """Apply changes in the order of their generations; searches see all of them or none.

        A change of the current generation may come again or for another model: it is applied, which changes nothing the second time.
        Older ones are passed over. A put without an embedding, or for another shard, only moves the generation on. An embedding that
        can't be used is left out, see ``damaged``: one bad row must not keep the others from being enrolled and erased.

        Raises:
            GenerationGapError: when a generation is missing; nothing after the gap is applied.
            MessageError: when an id is no UUID. UnavailableError: the disk is full (storage int8).
        """
        with self._lock:
            reached, puts = self._generation, list[GalleryChange]()
            for change in changes:
                if change.generation < reached:
                    continue
                if change.generation > reached + 1:
                    self._put(puts)
                    self._generation = reached
                    raise GenerationGapError(f"shard {self.shard} is at generation {reached}, the next change is {change.generation}")
                if change.action == "delete":
                    self._put(puts)
                    puts = []
                    self._gallery.delete(change.collection, change.reference_id)
                    self._generation = change.generation
                elif change.embedding is not None and self.owns(change.subject_id):
                    puts.append(change)
                reached = change.generation
            self._put(puts)
            self._generation = reached

    def _put(self, changes: Sequence[GalleryChange]) -> None:
        """Add references together, which an import's hundreds need; an id that is none stops those behind it."""
        try:
            self._gallery.put([_row(change) for change in changes])
        except MessageError:
            for change in changes:
                self._gallery.put([_row(change)])
                self._generation = change.generation

    def search(self, batch: ProbeBatch, now_s: float) -> ShardAnswer:
        """Return the nearest subjects of this shard for each probe; those not valid at now_s (Unix seconds) are not among them.

        Raises:
            MessageError: when the probes can't be read or do not have the model's length, or k is out of 1..MAX_K.
        """
        probes = _probes(batch)
        if not 1 <= batch.k <= MAX_K:
            raise MessageError(f"ProbeBatch {batch.batch_id}: k {batch.k}, must be 1..{MAX_K}")
        with self._lock:
            part = self._gallery.slice_of(batch.collection, batch.model)
            if part is not None and len(probes) and probes.shape[1] != part.dimensions:
                raise MessageError(f"ProbeBatch {batch.batch_id}: {probes.shape[1]} dimensions, {batch.model} has {part.dimensions}")
            return ShardAnswer(
                batch_id=batch.batch_id,
                shard=self.shard,
                shards_total=self.shards_total,
                generation=self._generation,
                candidates=part.search(probes, k=batch.k, now_s=now_s) if part is not None else ((),) * len(probes),
                references=len(part) if part is not None else 0,
            )

    def damaged(self) -> dict[tuple[str, str], str]:
        """Return (reference id, model) of each stored embedding that is left out, and what is wrong with it."""
        with self._lock:
            return self._gallery.damaged

    def sizes(self) -> dict[str, int]:
        """Return the number of references by collection, over all models."""
        with self._lock:
            return self._gallery.sizes()


def _row(change: GalleryChange) -> ReferenceRow:
    assert change.embedding is not None
    try:
        vector = change.embedding.unpack()
    except MessageError:
        vector = np.zeros(0, np.float32)
    usable = vector.ndim == 1 and vector.dtype == np.float32
    return ReferenceRow(
        collection=change.collection,
        model=change.model,
        subject_id=change.subject_id,
        subject=change.subject,
        reference_id=change.reference_id,
        embedding=vector if usable else np.zeros(0, np.float32),
        expires_s=change.expires_s,
        starts_s=change.starts_s,
    )


def _probes(batch: ProbeBatch) -> F32:
    probes: F32 = batch.probes.unpack()
    try:
        check_array("probes", probes, (None, None), np.float32)
    except ValueError as err:
        raise MessageError(f"ProbeBatch {batch.batch_id}: {err}") from err
    if not np.isfinite(probes).all():
        raise MessageError(f"ProbeBatch {batch.batch_id}: probes hold numbers that are not finite")
    return probes
