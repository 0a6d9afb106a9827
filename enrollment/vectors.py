"""Embeddings of references, read back: to compare with one reference, one subject, or those that a filter leaves. SQL of the gallery."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from core.errors import NotFoundError
from core.ports import Database
from core.types import F32, Candidate
from core.vault import label_of

PAGE: Final = 2000  # references of 2 KB at a time

# Who is matched at all, as matchers see it.
_LIVING = "(s.ends_at is null or s.ends_at > now()) and (s.valid_from is null or s.valid_from <= now())"
_FILTER = f"""
s.collection = $1 and {_LIVING} and ($2::jsonb is null or s.attributes @> $2)
and ($3::text is null or exists (
    select from watchlist_subject l join watchlist w using (watchlist_id) where l.subject_id = s.subject_id and w.name = $3))
"""
_EMBEDDINGS = """
select e.reference_id, r.subject_id, s.name, s.collection, e.embedding
from reference_embedding e join reference r using (reference_id) join subject s using (subject_id)
"""
_COUNT = f"""
select count(distinct s.subject_id)::int as subjects, count(e.reference_id)::int as references
from subject s left join reference r using (subject_id) left join reference_embedding e on e.reference_id = r.reference_id and e.model = $4
where {_FILTER}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectFilter:
    """Which subjects of a collection are meant."""

    collection: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Each of these must be there, with this value."""
    watchlist: str | None = None

    @property
    def all(self) -> bool:
        """Whether everybody is meant."""
        return not self.attributes and self.watchlist is None

    @property
    def args(self) -> tuple[Any, ...]:
        """Arguments of the SQL."""
        return self.collection, dict(self.attributes) or None, self.watchlist


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVector:
    """A reference's embedding."""

    reference_id: str
    subject_id: str
    subject: str
    collection: str
    vector: F32
    """(D,) float32, norm 1."""


class ReferenceVectors:
    """Reads embeddings of references of one model. Thread rule: one event loop."""

    def __init__(self, db: Database, *, model: str) -> None:
        self._db = db
        self._model = model

    async def of_reference(self, reference_id: str) -> KnownVector:
        """Return a reference's embedding. Raises NotFoundError."""
        rows = await self._db.fetch(_EMBEDDINGS + "where e.model = $1 and e.reference_id = $2", self._model, reference_id)
        if not rows:
            raise NotFoundError(f"reference {reference_id[:64]}: there is none")
        return self._known(rows[0])

    async def of_subject(self, subject_id: str) -> list[KnownVector]:
        """Return the embeddings of a subject's references, none once it has expired."""
        rows = await self._db.fetch(
            _EMBEDDINGS + f"where e.model = $1 and r.subject_id = $2 and {_LIVING} order by 1", self._model, subject_id
        )
        return [self._known(row) for row in rows]

    async def count(self, wanted: SubjectFilter) -> tuple[int, int]:
        """Return how many subjects a filter leaves, and how many embedded references they have."""
        row = (await self._db.fetch(_COUNT, *wanted.args, self._model))[0]
        return row["subjects"], row["references"]

    async def among(self, subject_ids: Sequence[str], wanted: SubjectFilter) -> frozenset[str]:
        """Return those of the subjects that a filter leaves."""
        sql = f"select s.subject_id from subject s where s.subject_id = any($4::uuid[]) and {_FILTER}"
        return frozenset(str(row["subject_id"]) for row in await self._db.fetch(sql, *wanted.args, list(subject_ids)))

    async def nearest(self, probes: F32, wanted: SubjectFilter, *, k: int) -> list[tuple[Candidate, ...]]:
        """Compare probes (N, D) with every reference that a filter leaves: exact, and slower the more there are."""
        best: list[dict[str, tuple[float, KnownVector]]] = [{} for _ in probes]
        after = None
        while True:
            sql = (
                _EMBEDDINGS + f"where e.model = $4 and ($5::uuid is null or e.reference_id > $5) and {_FILTER} "
                f"order by e.reference_id limit {PAGE}"
            )
            rows = await self._db.fetch(sql, *wanted.args, self._model, after)
            if not rows:
                break
            after = rows[-1]["reference_id"]
            known = [self._known(row) for row in rows]
            scores = probes @ np.stack([one.vector for one in known]).T
            for mine, row_scores in zip(best, scores, strict=True):
                for one, score in zip(known, row_scores.tolist(), strict=True):
                    if one.subject_id not in mine or mine[one.subject_id][0] < score:
                        mine[one.subject_id] = (score, one)
        return [_candidates(mine, k) for mine in best]

    def _known(self, row: Mapping[str, Any]) -> KnownVector:
        return KnownVector(
            reference_id=str(row["reference_id"]),
            subject_id=str(row["subject_id"]),
            subject=row["name"],
            collection=row["collection"],
            vector=np.frombuffer(self._db.vault.open(row["embedding"], label=label_of("embedding", row["reference_id"])), "<f4"),
        )


def _candidates(found: Mapping[str, tuple[float, KnownVector]], k: int) -> tuple[Candidate, ...]:
    ordered = sorted(found.values(), key=lambda pair: (-pair[0], pair[1].subject_id))[:k]
    return tuple(
        Candidate(subject_id=one.subject_id, subject=one.subject, reference_id=one.reference_id, score=score, rank=rank)
        for rank, (score, one) in enumerate(ordered, 1)
    )
