"""What a shard holds: one slice per collection and model, each an index with the people behind its slots."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.errors import MessageError
from core.schema import CandidateRow
from core.types import F32
from matcher.index import I64, VectorIndex

FETCH_PER_SUBJECT = 4  # references asked for per subject wanted: people have about three, so one search is mostly enough
BULK_ROWS = 2048  # rows added to an index at a time while loading: 4 MB of 512 floats

NewIndex = Callable[[int], VectorIndex]
"""Makes an empty index for a number of dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRow:
    """One reference of one model, as the database has it."""

    collection: str
    model: str
    subject_id: str
    subject: str
    reference_id: str
    embedding: F32
    """(D,) float32, norm 1."""
    expires_s: float | None = None
    """Unix time after which the subject is no longer matched."""


@dataclass(slots=True)
class _Subject:
    subject_id: str
    name: str
    expires_s: float | None
    references: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Entry:
    reference_id: str
    subject: _Subject


class GallerySlice:
    """The references of one collection and one model. Thread rule: one caller at a time."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self._entries: dict[int, _Entry] = {}
        self._slots: dict[str, int] = {}
        self._subjects: dict[str, _Subject] = {}

    def __len__(self) -> int:
        return len(self._index)

    @property
    def dimensions(self) -> int:
        """Length of the embeddings."""
        return self._index.dimensions

    def put(self, rows: Sequence[ReferenceRow]) -> None:
        """Add references, or replace those that are there; each row also brings its subject's name and expiry up to date."""
        new: dict[str, ReferenceRow] = {}
        for row in rows:
            slot = self._slots.get(row.reference_id)
            if slot is None:
                new[row.reference_id] = row
            else:
                self._index.update(np.array([slot], np.int64), row.embedding[None])
                self._move(slot, row)
        if new:
            slots = self._index.add(np.stack([row.embedding for row in new.values()]))
            for slot, row in zip(slots.tolist(), new.values(), strict=True):
                self._enter(slot, row)

    def delete(self, reference_id: str) -> None:
        """Delete a reference; unknown ones are no error, for a change may come twice."""
        slot = self._slots.pop(reference_id, None)
        if slot is not None:
            self._index.delete(np.array([slot], np.int64))
            self._leave(self._entries.pop(slot))

    def search(self, probes: F32, *, k: int, now_s: float) -> tuple[tuple[CandidateRow, ...], ...]:
        """Return for each probe (N, D) up to k subjects that have not expired at now_s, each with its best reference, best first.

        Asks the index for more references until k subjects are found or all references are seen, so that a subject with many
        references hides nobody.
        """
        found: list[tuple[CandidateRow, ...]] = [()] * len(probes)
        pending = np.arange(len(probes))
        fetch = FETCH_PER_SUBJECT * k
        while len(pending) and len(self._index):
            slots, scores = self._index.search(probes[pending], fetch)
            for place, row, row_scores in zip(pending.tolist(), slots, scores, strict=True):
                found[place] = self._subjects_of(row, row_scores, k, now_s)
            if fetch >= len(self._index):
                break
            pending = np.array([place for place in pending if len(found[place]) < k], np.int64)
            fetch *= FETCH_PER_SUBJECT
        return tuple(found)

    def _subjects_of(self, slots: I64, scores: F32, k: int, now_s: float) -> tuple[CandidateRow, ...]:
        best: dict[str, CandidateRow] = {}
        for slot, score in zip(slots.tolist(), scores.tolist(), strict=True):
            entry = self._entries[slot]
            subject = entry.subject
            if subject.subject_id in best or (subject.expires_s is not None and subject.expires_s <= now_s):
                continue
            best[subject.subject_id] = CandidateRow(subject.subject_id, subject.name, entry.reference_id, score)
            if len(best) == k:
                break
        return tuple(best.values())

    def _enter(self, slot: int, row: ReferenceRow) -> None:
        subject = self._subjects.setdefault(row.subject_id, _Subject(row.subject_id, row.subject, row.expires_s))
        subject.name, subject.expires_s = row.subject, row.expires_s
        subject.references.add(row.reference_id)
        self._entries[slot] = _Entry(row.reference_id, subject)
        self._slots[row.reference_id] = slot

    def _move(self, slot: int, row: ReferenceRow) -> None:
        self._leave(self._entries[slot])
        self._enter(slot, row)

    def _leave(self, entry: _Entry) -> None:
        entry.subject.references.discard(entry.reference_id)
        if not entry.subject.references:
            del self._subjects[entry.subject.subject_id]


class Gallery:
    """Slices by collection and model. Thread rule: one caller at a time."""

    def __init__(self, new_index: NewIndex) -> None:
        self._new_index = new_index
        self._slices: dict[tuple[str, str], GallerySlice] = {}

    def slice_of(self, collection: str, model: str) -> GallerySlice | None:
        """Return a slice, or None when nothing of it was ever enrolled."""
        return self._slices.get((collection, model))

    def sizes(self) -> dict[str, int]:
        """Return the number of references by collection, over all models."""
        sizes: dict[str, int] = {}
        for (collection, _), part in self._slices.items():
            sizes[collection] = sizes.get(collection, 0) + len(part)
        return sizes

    def put(self, rows: Iterable[ReferenceRow]) -> None:
        """Add or replace references, in pieces.

        Raises:
            MessageError: when an embedding is not finite or does not have the length of its model's others.
        """
        for piece in _pieces(rows, BULK_ROWS):
            by_slice: dict[tuple[str, str], list[ReferenceRow]] = {}
            for row in piece:
                by_slice.setdefault((row.collection, row.model), []).append(row)
            for key, slice_rows in by_slice.items():
                if key not in self._slices:
                    self._slices[key] = GallerySlice(self._new_index(len(slice_rows[0].embedding)))
                _check_embeddings(slice_rows, self._slices[key].dimensions)
                self._slices[key].put(slice_rows)

    def delete(self, collection: str, reference_id: str) -> None:
        """Delete a reference of every model."""
        for (slice_collection, _), part in self._slices.items():
            if slice_collection == collection:
                part.delete(reference_id)


def _check_embeddings(rows: Sequence[ReferenceRow], dimensions: int) -> None:
    for row in rows:
        if row.embedding.shape != (dimensions,) or not np.isfinite(row.embedding).all():
            problem = f"its embedding by {row.model} has shape {row.embedding.shape}, expected ({dimensions},) finite numbers"
            raise MessageError(f"reference {row.reference_id}: {problem}: embed it again")


def _pieces(rows: Iterable[ReferenceRow], size: int) -> Iterator[list[ReferenceRow]]:
    piece: list[ReferenceRow] = []
    for row in rows:
        piece.append(row)
        if len(piece) == size:
            yield piece
            piece = []
    if piece:
        yield piece
