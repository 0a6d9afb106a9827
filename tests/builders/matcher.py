"""Small galleries for tests of the matcher."""

import uuid

import numpy as np

from core.schema import Array, GalleryChange, ProbeBatch
from core.types import F32
from matcher.gallery import ReferenceRow

MODEL = "model"
NOW_S = 1_000_000.0


def unit_rows(count: int, dimensions: int, seed: int = 0) -> F32:
    """Return (count, dimensions) random unit rows."""
    rows = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def id_of(name: str) -> str:
    """Return the UUID that stands for a name in tests."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def row(
    subject: str, number: int, vector: F32, *, expires_s: float | None = None, starts_s: float | None = None, collection: str = "default"
) -> ReferenceRow:
    """Return reference ``number`` of a subject."""
    return ReferenceRow(
        collection=collection,
        model=MODEL,
        subject_id=id_of(subject),
        subject=subject.upper(),
        reference_id=id_of(f"{subject}/{number}"),
        embedding=vector,
        expires_s=expires_s,
        starts_s=starts_s,
    )


def put(generation: int, reference: ReferenceRow) -> GalleryChange:
    """Return the change that enrols a reference."""
    return GalleryChange(
        generation=generation,
        action="put",
        collection=reference.collection,
        subject_id=reference.subject_id,
        subject=reference.subject,
        reference_id=reference.reference_id,
        model=reference.model,
        embedding=Array.pack(reference.embedding),
        expires_s=reference.expires_s,
        starts_s=reference.starts_s,
    )


def delete(generation: int, reference: ReferenceRow) -> GalleryChange:
    """Return the change that erases a reference."""
    return GalleryChange(
        generation=generation,
        action="delete",
        collection=reference.collection,
        subject_id=reference.subject_id,
        subject="",
        reference_id=reference.reference_id,
        model="",
    )


def batch(probes: F32, *, k: int = 5, collection: str = "default", model: str = MODEL) -> ProbeBatch:
    """Return a question."""
    return ProbeBatch(batch_id="b", model=model, collection=collection, probes=Array.pack(probes), k=k, timeout_s=1.0)
