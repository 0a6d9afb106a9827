"""What a shard holds: one slice per collection and model, each an index with the people behind its slots."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.schema import CandidateRow
from core.types import F32, check_array
from matcher.ids import Ids, IdTable, id_texts, pack_ids
from matcher.index import I64, VectorIndex
from matcher.people import People

BULK_ROWS = 2048  # rows added to an index at a time while loading: 4 MB of 512 floats
SPARE_PER_LOAD = 2.0
"""References fetched beyond the subjects wanted, as a multiple of what a subject has (its mean, as a random reference sees it): the
nearest subject may have so many without hiding the others. Where it has more, the search is repeated with four times as many."""
FETCH_AGAIN = 4

NewIndex = Callable[[int], VectorIndex]
"""Makes an empty index for a number of dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRow:
    """One reference of one model, as the database has it."""

    collection: str
    model: str
    subject_id: str
    """A UUID."""
    subject: str
    reference_id: str
    """A UUID."""
    embedding: F32
    """(D,) float32, norm 1."""
    expires_s: float | None = None
    """Unix time after which the subject is no longer matched."""
    starts_s: float | None = None
    """Unix time before which the subject is not matched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceBlock:
    """References of one collection and model, as arrays."""

    collection: str
    model: str
    subject_ids: Ids
    """(n, 2)."""
    subjects: Sequence[str]
    """(n,) names."""
    reference_ids: Ids
    """(n, 2)."""
    expires_s: NDArray[np.float64]
    """(n,) Unix times after which subjects are no longer matched; inf = never."""
    starts_s: NDArray[np.float64]
    """(n,) Unix times before which subjects are not matched; -inf = never."""
    embeddings: F32
    """(n, D) float32, norm 1."""

    def __post_init__(self) -> None:
        count = len(self.subjects)
        check_array("subject_ids", self.subject_ids, (count, 2), np.uint64)
        check_array("reference_ids", self.reference_ids, (count, 2), np.uint64)
        check_array("expires_s", self.expires_s, (count,), np.float64)
        check_array("starts_s", self.starts_s, (count,), np.float64)
        check_array("embeddings", self.embeddings, (count, None), np.float32)

    def take(self, places: I64) -> "ReferenceBlock":
        """Return some of the references."""
        return ReferenceBlock(
            collection=self.collection,
            model=self.model,
            subject_ids=self.subject_ids[places],
            subjects=[self.subjects[place] for place in places],
            reference_ids=self.reference_ids[places],
            expires_s=self.expires_s[places],
            starts_s=self.starts_s[places],
            embeddings=self.embeddings[places],
        )


class GallerySlice:
    """The references of one collection and one model. Thread rule: one caller at a time."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self._references = IdTable()  # slots by reference
        self._subject_of_slot = np.zeros(0, np.int32)
        self._people = People()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def dimensions(self) -> int:
        """Length of the embeddings."""
        return self._index.dimensions

    @property
    def bytes_used(self) -> int:
        """Bytes in memory: vectors, codes, ids and people."""
        return self._index.bytes_used + self._references.bytes_used + self._subject_of_slot.nbytes + self._people.bytes_used

    def reserve(self, references: int) -> None:
        """Make room for so many references in all. Raises UnavailableError (disk full)."""
        self._index.reserve(references)

    def put(self, block: ReferenceBlock) -> None:
        """Add references, or replace those that are there; each also brings its subject's name and validity up to date.

        Raises:
            UnavailableError: the disk is full; nothing was added then.
        """
        block = _last_of_each(block)
        slots = self._references.find(block.reference_ids)
        known = np.flatnonzero(slots >= 0)
        new = np.flatnonzero(slots < 0)
        if len(known):
            self._index.update(slots[known], block.embeddings[known])
        if len(new):
            slots[new] = self._index.add(block.embeddings[new])
            self._references.put(block.reference_ids[new], slots[new])
        before = self._subject_of_slot[slots[known]].astype(np.int64)
        numbers = self._people.enter(block.subject_ids, block.subjects, block.expires_s, block.starts_s)
        self._reserve_slots(int(slots.max(initial=-1)) + 1)
        self._subject_of_slot[slots] = numbers
        self._people.leave(before)

    def delete(self, reference_id: Ids) -> None:
        """Delete a reference (1, 2); unknown ones are no error, for a change may come twice."""
        slots = self._references.find(reference_id)
        if slots[0] < 0:
            return
        self._index.delete(slots)
        self._references.remove(int(slots[0]))
        self._people.leave(self._subject_of_slot[slots].astype(np.int64))

    def search(self, probes: F32, *, k: int, now_s: float) -> tuple[tuple[CandidateRow, ...], ...]:
        """Return for each probe (N, D) up to k subjects that are valid at now_s, each with its best reference, best first.

        Asks the index for more references until k subjects are found or all references are seen, so that a subject with many
        references hides nobody.
        """
        found: list[tuple[CandidateRow, ...]] = [()] * len(probes)
        pending = np.arange(len(probes))
        fetch = k + int(np.ceil(SPARE_PER_LOAD * self._people.references_per_subject))
        while len(pending) and len(self._index):
            slots, scores = self._index.search(probes[pending], fetch)
            wanted = self._wanted(slots, k, now_s)
            last = fetch >= len(self._index)
            full = wanted.sum(axis=1) == k
            for place, rows in self._rows_of(slots, scores, wanted, np.flatnonzero(full | last)):
                found[pending[place]] = rows
            if last:
                break
            pending = pending[~full]
            fetch *= FETCH_AGAIN
        return tuple(found)

    def _wanted(self, slots: I64, k: int, now_s: float) -> NDArray[np.bool_]:
        """Return which of the slots (N, m), best first, are their subject's best and among the first k living subjects."""
        numbers = self._subject_of_slot[slots]
        order = np.argsort(numbers, axis=1, kind="stable")
        ordered = np.take_along_axis(numbers, order, axis=1)
        first = np.ones(slots.shape, np.bool_)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        wanted = np.empty(slots.shape, np.bool_)
        np.put_along_axis(wanted, order, first, axis=1)
        wanted &= (self._people.expires_s[numbers] > now_s) & (self._people.starts_s[numbers] <= now_s)
        wanted &= np.cumsum(wanted, axis=1) <= k
        return wanted

    def _rows_of(self, slots: I64, scores: F32, wanted: NDArray[np.bool_], places: I64) -> Iterator[tuple[int, tuple[CandidateRow, ...]]]:
        """Yield the candidates of some probes, made in one go."""
        if len(places) < len(slots):
            slots, scores, wanted = slots[places], scores[places], wanted[places]
        chosen = slots[wanted]
        numbers = self._subject_of_slot[chosen]
        ids = id_texts(np.concatenate([self._people.ids(numbers), self._references.ids(chosen)]))
        names = map(self._people.names.__getitem__, numbers.tolist())
        rows = list(map(CandidateRow, ids[: len(chosen)], names, ids[len(chosen) :], scores[wanted].tolist()))
        first = 0
        for place, count in zip(places.tolist(), wanted.sum(axis=1).tolist(), strict=True):
            yield place, tuple(rows[first : first + count])
            first += count

    def _reserve_slots(self, count: int) -> None:
        if count > len(self._subject_of_slot):
            grown = np.zeros(max(count, len(self._subject_of_slot) * 3 // 2), np.int32)
            grown[: len(self._subject_of_slot)] = self._subject_of_slot
            self._subject_of_slot = grown


class Gallery:
    """Slices by collection and model. Thread rule: one caller at a time."""

    def __init__(self, new_index: NewIndex) -> None:
        self._new_index = new_index
        self._slices: dict[tuple[str, str], GallerySlice] = {}
        self._damaged: dict[tuple[str, str], str] = {}

    @property
    def damaged(self) -> dict[tuple[str, str], str]:
        """(reference id, model) of each stored embedding that is left out because it can't be used, and what is wrong with it."""
        return dict(self._damaged)

    @property
    def bytes_used(self) -> int:
        """Bytes in memory."""
        return sum(part.bytes_used for part in self._slices.values())

    def slice_of(self, collection: str, model: str) -> GallerySlice | None:
        """Return a slice, or None when nothing of it was ever enrolled."""
        return self._slices.get((collection, model))

    def sizes(self) -> dict[str, int]:
        """Return the number of references by collection, over all models."""
        sizes: dict[str, int] = {}
        for (collection, _), part in self._slices.items():
            sizes[collection] = sizes.get(collection, 0) + len(part)
        return sizes

    def reserve(self, collection: str, model: str, *, dimensions: int, references: int) -> None:
        """Say how long a model's embeddings are, and how many will come, before the first. Raises UnavailableError (disk full)."""
        self._slice(collection, model, dimensions).reserve(references)

    def put(self, rows: Iterable[ReferenceRow]) -> None:
        """Add or replace references, in pieces; those whose embedding can't be used are left out, see ``damaged``.

        Raises:
            MessageError: an id is no UUID. UnavailableError: the disk is full.
        """
        for piece in _pieces(rows, BULK_ROWS):
            by_slice: dict[tuple[str, str, int], list[ReferenceRow]] = {}
            for row in piece:
                by_slice.setdefault((row.collection, row.model, row.embedding.size), []).append(row)
            for alike in by_slice.values():
                self.put_block(_block(alike))

    def put_block(self, block: ReferenceBlock) -> None:
        """Add or replace references; those whose embedding can't be used are left out, see ``damaged``.

        The first embedding of a model (or ``reserve``) says how long they all are.

        Raises:
            UnavailableError: the disk is full.
        """
        length = block.embeddings.shape[1]
        if not length:
            self.leave_out(block, "is empty")
            return
        part = self._slice(block.collection, block.model, length)
        if length != part.dimensions:
            self.leave_out(block, f"has {length} numbers, expected {part.dimensions}")
            return
        finite = np.isfinite(block.embeddings).all(axis=1)
        if not finite.all():
            self.leave_out(block.take(np.flatnonzero(~finite)), "holds numbers that are not finite")
            block = block.take(np.flatnonzero(finite))
        part.put(block)
        if self._damaged:
            for reference_id in id_texts(block.reference_ids):
                self._damaged.pop((reference_id, block.model), None)

    def leave_out(self, block: ReferenceBlock, problem: str) -> None:
        """Note that embeddings can't be used; what the references had before is deleted, as in a gallery loaded now."""
        part = self._slices.get((block.collection, block.model))
        for place, reference_id in enumerate(id_texts(block.reference_ids)):
            self._damaged[reference_id, block.model] = problem
            if part is not None:
                part.delete(block.reference_ids[place : place + 1])

    def delete(self, collection: str, reference_id: str) -> None:
        """Delete a reference of every model. Raises MessageError when the id is no UUID."""
        packed = pack_ids([reference_id], f"reference {reference_id[:80]!r}")
        for (slice_collection, model), part in self._slices.items():
            if slice_collection == collection:
                part.delete(packed)
                self._damaged.pop((reference_id, model), None)

    def _slice(self, collection: str, model: str, dimensions: int) -> GallerySlice:
        if (collection, model) not in self._slices:
            self._slices[collection, model] = GallerySlice(self._new_index(dimensions))
        return self._slices[collection, model]


def _block(rows: Sequence[ReferenceRow]) -> ReferenceBlock:
    """Return rows of one collection, model and length as arrays."""
    return ReferenceBlock(
        collection=rows[0].collection,
        model=rows[0].model,
        subject_ids=pack_ids((row.subject_id for row in rows), "subject"),
        subjects=[row.subject for row in rows],
        reference_ids=pack_ids((row.reference_id for row in rows), "reference"),
        expires_s=np.array([np.inf if row.expires_s is None else row.expires_s for row in rows], np.float64),
        starts_s=np.array([-np.inf if row.starts_s is None else row.starts_s for row in rows], np.float64),
        embeddings=np.stack([row.embedding.reshape(-1) for row in rows]),
    )


def _last_of_each(block: ReferenceBlock) -> ReferenceBlock:
    """Return the block with each reference once, as it came last."""
    _, from_end = np.unique(block.reference_ids[::-1], axis=0, return_index=True)
    if len(from_end) == len(block.subjects):
        return block
    return block.take(np.sort(len(block.subjects) - 1 - from_end))


def _pieces(rows: Iterable[ReferenceRow], size: int) -> Iterator[list[ReferenceRow]]:
    piece: list[ReferenceRow] = []
    for row in rows:
        piece.append(row)
        if len(piece) == size:
            yield piece
            piece = []
    if piece:
        yield piece
