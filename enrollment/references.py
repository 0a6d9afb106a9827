"""The references of the gallery in PostgreSQL: faces, their pictures and embeddings."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import NotFoundError
from core.events import tell
from core.ports import Database
from core.sealing import SealedColumn
from core.types import F32, Candidate
from core.vault import OVERHEAD_BYTES, label_of, seal_embedding
from enrollment.changes import lock_generation, tell_changes
from enrollment.changing import enter_subject, locked_subject
from enrollment.record import Added, Known, NewReference, Reference, Subject, SubjectDetails, clean_name
from enrollment.rows import REFERENCES, SUBJECTS, reference_of, subject_of, uuid_or_nothing

SEALED = (
    SealedColumn(table="reference", key="reference_id", column="face_jpeg", label=lambda row: label_of("face", row["reference_id"])),
    SealedColumn(
        table="reference_embedding",
        key="reference_id, model",
        column="embedding",
        label=lambda row: label_of("embedding", row["reference_id"]),
    ),
)
_KNOWN = """
select s.subject_id, s.name, r.reference_id, r.source, r.quality,
       exists (select from reference_embedding e where e.reference_id = r.reference_id and e.model = $3) as embedded
from reference r join subject s using (subject_id)
where r.content_sha256 = $1 and s.collection = $2
order by r.created_at, r.reference_id
"""
_ADD_REFERENCE = """
insert into reference (reference_id, subject_id, content_sha256, source, face_jpeg, landmarks, quality, quality_reasons)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (reference_id) do nothing
"""
_ADD_EMBEDDING = """
insert into reference_embedding (reference_id, model, embedding) values ($1, $2, $3) on conflict (reference_id, model) do nothing
"""
_LACKING = (
    f"octet_length(r.face_jpeg) > {OVERHEAD_BYTES} "  # what came over as an embedding alone has a sealed nothing for a picture
    "and not exists (select from reference_embedding e where e.reference_id = r.reference_id and e.model = $1)"
)
_NEWER = """
select s.subject_id, s.name, r.reference_id, e.embedding
from gallery_change c
join reference r on r.reference_id = c.reference_id and r.subject_id = c.subject_id
join subject s on s.subject_id = r.subject_id
join reference_embedding e on e.reference_id = r.reference_id and e.model = $3
where c.generation > $1 and c.action = 'put' and c.collection = $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A last look at a face before it is stored: at what was enrolled since the matcher was asked about it."""

    since: int
    """The generation of the gallery that the matcher's answer was about."""
    judge: Callable[[Sequence[Candidate]], None]
    """Is shown the later references, best first, and raises what stops the storing."""


class ReferenceStore:
    """References. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @property
    def db(self) -> Database:
        """The database, for the other stores of this room."""
        return self._db

    async def references(self, subject_id: str) -> list[Reference]:
        """Return the references of a subject, oldest first."""
        rows = await self._db.fetch(
            REFERENCES + "where r.subject_id = $1 order by r.created_at, r.reference_id", uuid_or_nothing(subject_id)
        )
        return [reference_of(row) for row in rows]

    async def reference(self, reference_id: str) -> tuple[Reference, Subject]:
        """Return a reference and whose it is. Raises NotFoundError."""
        rows = await self._db.fetch(REFERENCES + "where r.reference_id = $1", uuid_or_nothing(reference_id))
        owners = await self._db.fetch(SUBJECTS + "where s.subject_id = $1", rows[0]["subject_id"]) if rows else []
        if not owners:
            raise _no_reference(reference_id)
        return reference_of(rows[0]), subject_of(owners[0])

    async def face_jpeg(self, reference_id: str) -> bytes:
        """Return the picture of a reference. Raises NotFoundError."""
        rows = await self._db.fetch("select face_jpeg from reference where reference_id = $1", uuid_or_nothing(reference_id))
        if not rows:
            raise _no_reference(reference_id)
        face = self._open_face(rows[0]["face_jpeg"], reference_id)
        if not face:
            raise NotFoundError(f"reference {reference_id[:80]}: has no picture: it was imported as an embedding")
        return face

    async def delete_reference(self, reference_id: str) -> int:
        """Delete one reference with its face and embeddings, and return the gallery's new generation. Raises NotFoundError."""
        async with self._db.transaction() as tx:
            subject = await _owner(tx, reference_id)
            key = uuid.UUID(reference_id)
            await tx.execute("delete from reference where reference_id = $1", key)
            generation = await _tell(tx, "delete", subject, [key])
            await tell(tx, "gallery", [(subject.subject_id, subject.version)], collection=subject.collection)
        return generation

    async def move_reference(self, reference_id: str, subject_id: str) -> int | None:
        """Give a reference to another subject; it keeps its id. Returns the generation, None when it was there already.

        Raises:
            NotFoundError: no such reference or subject.
        """
        async with self._db.transaction() as tx:
            target = await locked_subject(tx, subject_id)
            owner = await _owner(tx, reference_id)
            if owner.subject_id == target.subject_id:
                return None
            key = uuid.UUID(reference_id)
            await tx.execute("update reference set subject_id = $2 where reference_id = $1", key, target.subject_id)
            await _tell(tx, "delete", owner, [key])
            generation = await _tell(tx, "put", target, [key])
            moved = [(owner.subject_id, owner.version), (target.subject_id, target.version)]
            await tell(tx, "gallery", moved, collection=target.collection)
        return generation

    async def known(self, content_sha256: bytes, *, collection: str, model: str) -> list[Known]:
        """Return the references whose photo had exactly this content, oldest first."""
        return [
            Known(
                subject_id=str(row["subject_id"]),
                subject=row["name"],
                reference_id=str(row["reference_id"]),
                source=row["source"],
                quality=row["quality"],
                embedded=row["embedded"],
            )
            for row in await self._db.fetch(_KNOWN, content_sha256, collection, model)
        ]

    async def add_reference(
        self, name: str, new: NewReference, *, collection: str, details: SubjectDetails | None = None, check: Check | None = None
    ) -> Added:
        """Store a face, making its subject and collection where they are new; idempotent by content.

        Raises:
            UsageError: a name that can't be. UnavailableError: nothing was stored. Whatever ``check`` raises.
        """
        async with self._db.transaction() as tx:
            subject = await enter_subject(tx, clean_name(name), collection, details or SubjectDetails())
            added = await self._add(tx, subject, new, check)
            if added.generation is not None:
                await tell(tx, "gallery", [(subject.subject_id, subject.version)], collection=collection)
        return added

    async def add_references(self, subject_id: str, faces: Sequence[tuple[NewReference, Check | None]]) -> list[Added]:
        """Store faces of a subject that is there, all or none; idempotent by content.

        Raises:
            NotFoundError: no such subject. UnavailableError: nothing was stored. Whatever a check raises.
        """
        async with self._db.transaction() as tx:
            subject = await locked_subject(tx, subject_id, share=True)
            added = [await self._add(tx, subject, new, check) for new, check in faces]
            if any(one.generation is not None for one in added):
                await tell(tx, "gallery", [(subject.subject_id, subject.version)], collection=subject.collection)
        return added

    async def _add(self, tx: Database, subject: Subject, new: NewReference, check: Check | None) -> Added:
        if check is not None and await lock_generation(tx) > check.since:
            check.judge(await self._newer(tx, check.since, subject.collection, new))
        reference_id = reference_id_of(subject.subject_id, new.content_sha256, new.face_index)
        added = await tx.execute(
            _ADD_REFERENCE,
            reference_id,
            subject.subject_id,
            new.content_sha256,
            new.source,
            tx.vault.seal(new.face_jpeg, label=label_of("face", reference_id)),
            [float(value) for value in new.landmarks.reshape(-1)],
            new.quality,
            list(new.quality_reasons),
        )
        added += await tx.execute(_ADD_EMBEDDING, reference_id, new.model, seal_embedding(tx.vault, reference_id, new.vector))
        generation = await _tell(tx, "put", subject, [reference_id]) if added else None
        return Added(subject_id=subject.subject_id, reference_id=str(reference_id), generation=generation)

    async def _newer(self, tx: Database, since: int, collection: str, new: NewReference) -> list[Candidate]:
        """Return what was enrolled since a generation, by its likeness to a face, best first."""
        rows = await tx.fetch(_NEWER, since, collection, new.model)
        found = [(row, float(_vector(tx, row) @ new.vector)) for row in rows]
        found.sort(key=lambda item: -item[1])
        return [
            Candidate(
                subject_id=str(row["subject_id"]),
                subject=row["name"],
                reference_id=str(row["reference_id"]),
                score=score,
                rank=rank,
            )
            for rank, (row, score) in enumerate(found, 1)
        ]

    async def lacking(self, model: str, *, after: str | None = None, limit: int = 64) -> list[tuple[str, bytes, F32]]:
        """Return references that a model has not embedded, by id: (reference_id, face_jpeg, landmarks (5, 2) float32)."""
        rows = await self._db.fetch(
            f"select r.reference_id, r.face_jpeg, r.landmarks from reference r where {_LACKING} "
            "and ($2::uuid is null or r.reference_id > $2) order by r.reference_id limit $3",
            model,
            after,
            limit,
        )
        return [
            (str(row["reference_id"]), self._open_face(row["face_jpeg"], row["reference_id"]), _points(row["landmarks"])) for row in rows
        ]

    async def count_lacking(self, model: str) -> int:
        """Return how many references a model has not embedded."""
        rows = await self._db.fetch(f"select count(*) as n from reference r where {_LACKING}", model)
        return int(rows[0]["n"])

    async def add_embeddings(self, model: str, vectors: Sequence[tuple[str, F32]]) -> int | None:
        """Store embeddings of references in one transaction, and return the generation; None when nothing was new.

        A reference that was deleted meanwhile is left out.
        """
        generation = None
        async with self._db.transaction() as tx:
            for reference_id, vector in vectors:
                rows = await tx.fetch(
                    SUBJECTS + "join reference x using (subject_id) where x.reference_id = $1 for share of x", reference_id
                )
                if rows and await tx.execute(_ADD_EMBEDDING, reference_id, model, seal_embedding(tx.vault, reference_id, vector)):
                    generation = await _tell(tx, "put", subject_of(rows[0]), [uuid.UUID(reference_id)])
        return generation

    def _open_face(self, sealed: bytes, reference_id: uuid.UUID | str) -> bytes:
        return self._db.vault.open(sealed, label=label_of("face", reference_id))


def _points(landmarks: Sequence[float]) -> F32:
    return np.asarray(landmarks, np.float32).reshape(5, 2)


def _vector(tx: Database, row: dict[str, Any]) -> F32:
    return np.frombuffer(tx.vault.open(row["embedding"], label=label_of("embedding", row["reference_id"])), "<f4")


def reference_id_of(subject_id: str, content_sha256: bytes, face_index: int) -> uuid.UUID:
    """Return uuid5 of subject, content and face: enrolling a photo twice makes one reference."""
    return uuid.uuid5(uuid.UUID(subject_id), f"{content_sha256.hex()}/{face_index}")


async def _tell(tx: Database, action: str, subject: Subject, reference_ids: Sequence[uuid.UUID]) -> int:
    return await tell_changes(tx, action, collection=subject.collection, subject_id=subject.subject_id, reference_ids=reference_ids)


async def _owner(tx: Database, reference_id: str) -> Subject:
    """Return whose a reference is, with the reference locked until the transaction ends."""
    rows = await tx.fetch(
        SUBJECTS + "join reference x using (subject_id) where x.reference_id = $1 for update of x", uuid_or_nothing(reference_id)
    )
    if not rows:
        raise _no_reference(reference_id)
    return subject_of(rows[0])


def _no_reference(reference_id: str) -> NotFoundError:
    return NotFoundError(f"reference {reference_id[:80]}: there is none")
