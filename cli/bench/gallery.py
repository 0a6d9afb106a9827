"""Galleries of generated people for benchmarks, of any size: made piece by piece, so that only the piece is in memory beside the index."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cli.bench.people import People, generate_people
from core.ports import Database
from core.types import F32
from core.vault import seal_embedding
from matcher.gallery import Gallery, ReferenceBlock
from matcher.ids import Ids, id_texts

PIECE = 12_288  # references made at a time: 25 MB of 512 floats; a subject is in one piece only
COLLECTION, MODEL = "default", "bench"
EXTRA_FACTS = 10  # landmarks that a stored reference must have


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some people, and the block of their references."""

    people: People
    block: ReferenceBlock
    subject_ids: Ids
    """(s, 2) of all people of the piece, by the number in ``people.owners``."""


def pieces(references: int, dimensions: int, *, seed: int, probes: int = 64) -> Iterator[Piece]:
    """Yield a gallery of so many references; the same for the same arguments. ``probes``: of each piece's people."""
    for number, first in enumerate(range(0, references, PIECE)):
        rng = np.random.default_rng([seed, number])
        count = min(PIECE, references - first)
        people = generate_people(references=count, dimensions=dimensions, probes=probes, rng=rng)
        ids = rng.integers(0, 2**64, (int(people.owners.max()) + 1, 2), dtype=np.uint64)
        yield Piece(
            people=people,
            subject_ids=ids,
            block=ReferenceBlock(
                collection=COLLECTION,
                model=MODEL,
                subject_ids=ids[people.owners],
                subjects=[f"person {number}-{owner}" for owner in people.owners.tolist()],
                reference_ids=rng.integers(0, 2**64, (count, 2), dtype=np.uint64),
                expires_s=np.full(count, np.inf),
                starts_s=np.full(count, -np.inf),
                embeddings=people.references,
            ),
        )


def fill(gallery: Gallery, block: ReferenceBlock, buckets: range) -> None:
    """Add those references of a block whose subjects are of these buckets."""
    bucket = (block.subject_ids[:, 0] >> np.uint64(54)).astype(np.int64)
    gallery.put_block(block.take(np.flatnonzero((bucket >= buckets.start) & (bucket < buckets.stop))))


class Oracle:
    """The true nearest subjects of some probes, gathered while a gallery passes by."""

    def __init__(self, probes: F32, k: int) -> None:
        self._probes = probes
        self._k = k
        self._scores = np.full((len(probes), 0), 0, np.float32)
        self._ids = np.zeros((len(probes), 0, 2), np.uint64)

    def offer(self, piece: Piece) -> None:
        """Look at the people of a piece: every cosine, the best of each subject."""
        order = np.argsort(piece.people.owners, kind="stable")
        owners, starts = np.unique(piece.people.owners[order], return_index=True)
        scores = np.maximum.reduceat(self._probes @ piece.block.embeddings[order].T, starts, axis=1)
        ids = np.broadcast_to(piece.subject_ids[owners], (len(self._probes), len(owners), 2))
        scores, ids = np.concatenate([self._scores, scores], axis=1), np.concatenate([self._ids, ids], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._k]
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._ids = np.take_along_axis(ids, best[:, :, None], axis=1)

    def subjects(self) -> list[list[str]]:
        """Return the ids of each probe's nearest subjects, best first."""
        return [id_texts(row) for row in self._ids]


async def store_gallery(db: Database, references: int, dimensions: int, *, seed: int, model: str = MODEL) -> F32:
    """Enrol a generated gallery in an empty database, as a model's; return probes of some of its people."""
    probes: list[F32] = []
    for piece in pieces(references, dimensions, seed=seed):
        block = piece.block
        async with db.transaction() as tx:
            await tx.execute(
                "insert into subject (subject_id, collection, name) select distinct on (id) id, $1, name "
                "from unnest($2::uuid[], $3::text[]) as given (id, name)",
                COLLECTION,
                id_texts(block.subject_ids),
                block.subjects,
            )
            await tx.execute(
                "insert into reference (reference_id, subject_id, content_sha256, source, face_jpeg, landmarks, quality) "
                f"select *, '', '', '', array_fill(0::real, array[{EXTRA_FACTS}]), 1 from unnest($1::uuid[], $2::uuid[])",
                id_texts(block.reference_ids),
                id_texts(block.subject_ids),
            )
            await tx.execute(
                "insert into reference_embedding select id, $2, embedding from unnest($1::uuid[], $3::bytea[]) as given (id, embedding)",
                id_texts(block.reference_ids),
                model,
                [
                    seal_embedding(tx.vault, reference_id, vector)
                    for vector, reference_id in zip(block.embeddings, id_texts(block.reference_ids), strict=True)
                ],
            )
        probes.append(piece.people.probes)
    await db.execute("analyze subject; analyze reference; analyze reference_embedding")
    return np.concatenate(probes)
