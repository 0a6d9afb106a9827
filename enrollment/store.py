"""The gallery in PostgreSQL: all SQL of this room.

Every change takes the one row of ``gallery_generation``, so generations have no gaps and follow commit order, and is told on the
channel ``gallery`` with its generation as payload.
"""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from core.errors import ConflictError, NotFoundError
from core.ports import Database
from core.sealing import SealedColumn
from core.types import F32
from core.vault import label_of, seal_embedding
from enrollment.record import (
    Added,
    Counts,
    Known,
    NewReference,
    Receipt,
    Reference,
    Subject,
    SubjectDetails,
    check_collection,
    clean_name,
)

CHANNEL = "gallery"
SEALED = (
    SealedColumn(table="reference", key="reference_id", column="face_jpeg", label=lambda row: label_of("face", row["reference_id"])),
    SealedColumn(
        table="reference_embedding",
        key="reference_id, model",
        column="embedding",
        label=lambda row: label_of("embedding", row["reference_id"]),
    ),
)
KEEP_CHANGES = timedelta(days=7)
MAX_PAGE = 1000

Forget = Callable[[Database, str], Awaitable[int]]
"""Erases a subject from what other rooms remember, inside the given transaction; returns how many sightings named it."""

_SUBJECTS = """
select s.subject_id, s.collection, s.name, s.attributes, s.consent, s.expires_at, s.created_at,
       (select count(*) from reference r where r.subject_id = s.subject_id) as reference_count
from subject s
"""
_REFERENCES = """
select r.reference_id, r.subject_id, r.source, r.quality, r.quality_reasons, r.created_at,
       array(select e.model from reference_embedding e where e.reference_id = r.reference_id order by e.model) as models
from reference r
"""
_KNOWN = """
select s.subject_id, s.name, r.reference_id, r.source, r.quality,
       exists (select from reference_embedding e where e.reference_id = r.reference_id and e.model = $3) as embedded
from reference r join subject s using (subject_id)
where r.content_sha256 = $1 and s.collection = $2
order by r.created_at, r.reference_id
"""
_MERGE_SUBJECT = """
update subject set attributes = attributes || $2, consent = coalesce($3, consent), expires_at = coalesce($4, expires_at)
where subject_id = $1
"""
_ADD_REFERENCE = """
insert into reference (reference_id, subject_id, content_sha256, source, face_jpeg, landmarks, quality, quality_reasons)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (reference_id) do nothing
"""
_ADD_EMBEDDING = """
insert into reference_embedding (reference_id, model, embedding) values ($1, $2, $3) on conflict (reference_id, model) do nothing
"""
_ADD_CHANGE = """
insert into gallery_change (generation, action, collection, subject_id, reference_id) values ($1, $2, $3, $4, $5)
"""
_TRIM_CHANGES = """
delete from gallery_change
where generation in (
    select generation from (select * from gallery_change order by generation limit $1) oldest where changed_at < now() - $2::interval)
"""
_ADD_RECEIPT = """
insert into erasure ("references", embeddings, sightings, generation) values ($1, $2, $3, $4) returning receipt_id, erased_at
"""
_LACKING = "not exists (select from reference_embedding e where e.reference_id = r.reference_id and e.model = $1)"


class GalleryStore:
    """Collections, subjects and references. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, *, forget: Forget) -> None:
        """Keep SQL of the gallery in one place.

        Args:
            db: the database, or a transaction of it.
            forget: how an erased subject is erased from sightings too, in the same transaction.
        """
        self._db = db
        self._forget = forget

    async def collections(self) -> list[str]:
        """Return the names of all collections."""
        return [row["name"] for row in await self._db.fetch("select name from collection order by name")]

    async def make_collection(self, name: str) -> None:
        """Make a collection unless it is there. Raises UsageError for a name that can't be."""
        await self._db.execute("insert into collection (name) values ($1) on conflict do nothing", check_collection(name))

    async def counts(self, collection: str | None = None) -> Counts:
        """Return how much is enrolled, in one collection or in all."""
        rows = await self._db.fetch(
            "select (select count(*) from collection where $1::text is null or name = $1) as collections, "
            "(select count(*) from subject where $1::text is null or collection = $1) as subjects, "
            "(select count(*) from reference join subject using (subject_id) where $1::text is null or collection = $1) as refs, "
            "(select generation from gallery_generation) as generation",
            collection,
        )
        row = rows[0]
        return Counts(collections=row["collections"], subjects=row["subjects"], references=row["refs"], generation=row["generation"])

    async def subjects(self, collection: str | None = None, *, after: str = "", limit: int = MAX_PAGE) -> list[Subject]:
        """Return a page of subjects by name: those whose name sorts after ``after``. Page through one collection at a time."""
        rows = await self._db.fetch(
            _SUBJECTS + "where ($1::text is null or s.collection = $1) and s.name > $2 order by s.name, s.collection limit $3",
            collection,
            after,
            max(1, min(limit, MAX_PAGE)),
        )
        return [_subject(row) for row in rows]

    async def subject(self, key: str, *, collection: str | None = None) -> Subject:
        """Return a subject by id or by name.

        Raises:
            NotFoundError: there is none. ConflictError: several collections have one of this name.
        """
        subject_id = _uuid(key)
        rows = await self._db.fetch(
            _SUBJECTS + "where (s.subject_id = $1 or s.name = $2) and ($3::text is null or s.collection = $3) order by s.collection",
            subject_id,
            _name_or_nothing(key),
            collection,
        )
        by_id = [row for row in rows if row["subject_id"] == subject_id]
        if not rows:
            where = f" in collection {collection}" if collection else ""
            raise NotFoundError(f"subject '{key[:80]}'{where}: there is none; 'sightline subjects list' shows all")
        if len(rows) > 1 and not by_id:
            raise ConflictError(f"subject '{key[:80]}': is in {', '.join(row['collection'] for row in rows)}; name the collection")
        return _subject((by_id or rows)[0])

    async def make_subject(self, name: str, *, collection: str, details: SubjectDetails | None = None) -> Subject:
        """Make a subject without references.

        Raises:
            ConflictError: the name is taken. UsageError: the name can't be.
        """
        async with self._db.transaction() as tx:
            store = GalleryStore(tx, forget=self._forget)
            await store.make_collection(collection)
            if await tx.fetch("select from subject where collection = $1 and name = $2", collection, clean_name(name)):
                raise ConflictError(f"subject '{clean_name(name)}': is already in collection {collection}")
            return await store.subject(await store._subject_id(clean_name(name), collection, details or SubjectDetails()))

    async def rename(self, key: str, new_name: str, *, collection: str | None = None) -> Subject:
        """Give a subject another name; the matchers learn it with the next generations.

        Raises:
            NotFoundError, ConflictError: no such subject; the new name is taken. UsageError: the name can't be.
        """
        name = clean_name(new_name)
        async with self._db.transaction() as tx:
            store = GalleryStore(tx, forget=self._forget)
            subject = await store.subject(key, collection=collection)
            taken = await tx.fetch(
                "select from subject where collection = $1 and name = $2 and subject_id <> $3", subject.collection, name, subject.subject_id
            )
            if taken:
                raise ConflictError(f"subject '{name}': is already in collection {subject.collection}; choose another name")
            await tx.execute("update subject set name = $2 where subject_id = $1", subject.subject_id, name)
            rows = await tx.fetch("select reference_id from reference where subject_id = $1 order by reference_id", subject.subject_id)
            await _tell(tx, "put", subject, [row["reference_id"] for row in rows])
            return await store.subject(subject.subject_id)

    async def update(self, key: str, details: SubjectDetails, *, collection: str | None = None) -> Subject:
        """Merge details into a subject: attributes one by one, consent and expiry where given. Raises NotFoundError."""
        async with self._db.transaction() as tx:
            store = GalleryStore(tx, forget=self._forget)
            subject = await store.subject(key, collection=collection)
            await store._merge(subject.subject_id, details)
            return await store.subject(subject.subject_id)

    async def erase(self, key: str, *, collection: str | None = None) -> Receipt:
        """Erase a subject: references, faces, embeddings, and the name and pictures in all sightings, in one transaction.

        Raises:
            NotFoundError, ConflictError: see subject.
        """
        async with self._db.transaction() as tx:
            subject = await GalleryStore(tx, forget=self._forget).subject(key, collection=collection)
            sightings = await self._forget(tx, subject.subject_id)
            await tx.fetch("select from subject where subject_id = $1 for update", subject.subject_id)
            embeddings = await tx.execute(
                "delete from reference_embedding e using reference r where e.reference_id = r.reference_id and r.subject_id = $1",
                subject.subject_id,
            )
            rows = await tx.fetch("delete from reference where subject_id = $1 returning reference_id", subject.subject_id)
            await tx.execute("delete from subject where subject_id = $1", subject.subject_id)
            generation = await _tell(tx, "delete", subject, sorted(row["reference_id"] for row in rows))
            receipts = await tx.fetch(
                _ADD_RECEIPT,
                len(rows),
                embeddings,
                sightings,
                generation,
            )
        return Receipt(
            receipt_id=str(receipts[0]["receipt_id"]),
            erased_at=receipts[0]["erased_at"],
            references=len(rows),
            embeddings=embeddings,
            sightings=sightings,
            generation=generation,
        )

    async def references(self, subject_id: str) -> list[Reference]:
        """Return the references of a subject, oldest first."""
        rows = await self._db.fetch(_REFERENCES + "where r.subject_id = $1 order by r.created_at, r.reference_id", _uuid(subject_id))
        return [_reference(row) for row in rows]

    async def face_jpeg(self, reference_id: str) -> bytes:
        """Return the picture of a reference. Raises NotFoundError."""
        rows = await self._db.fetch("select face_jpeg from reference where reference_id = $1", _uuid(reference_id))
        if not rows:
            raise NotFoundError(f"reference {reference_id[:80]}: there is none")
        return self._open_face(rows[0]["face_jpeg"], reference_id)

    async def delete_reference(self, reference_id: str) -> int:
        """Delete one reference with its face and embeddings, and return the gallery's new generation. Raises NotFoundError."""
        async with self._db.transaction() as tx:
            rows = await tx.fetch("delete from reference where reference_id = $1 returning subject_id, reference_id", _uuid(reference_id))
            if not rows:
                raise NotFoundError(f"reference {reference_id[:80]}: there is none")
            subject = await GalleryStore(tx, forget=self._forget).subject(str(rows[0]["subject_id"]))
            return await _tell(tx, "delete", subject, [rows[0]["reference_id"]])

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

    async def add_reference(self, name: str, new: NewReference, *, collection: str, details: SubjectDetails | None = None) -> Added:
        """Store a face, making its subject and collection where they are new; idempotent by content.

        Raises:
            UsageError: a name that can't be. UnavailableError: nothing was stored.
        """
        async with self._db.transaction() as tx:
            store = GalleryStore(tx, forget=self._forget)
            await store.make_collection(collection)
            subject_id = await store._subject_id(clean_name(name), collection, details or SubjectDetails())
            reference_id = reference_id_of(subject_id, new.content_sha256, new.face_index)
            added = await tx.execute(
                _ADD_REFERENCE,
                reference_id,
                subject_id,
                new.content_sha256,
                new.source,
                self._db.vault.seal(new.face_jpeg, label=label_of("face", reference_id)),
                [float(value) for value in new.landmarks.reshape(-1)],
                new.quality,
                list(new.quality_reasons),
            )
            added += await tx.execute(_ADD_EMBEDDING, reference_id, new.model, seal_embedding(tx.vault, reference_id, new.vector))
            generation = await _tell(tx, "put", await store.subject(subject_id), [reference_id]) if added else None
        return Added(subject_id=subject_id, reference_id=str(reference_id), generation=generation)

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
                    _SUBJECTS + "join reference x using (subject_id) where x.reference_id = $1 for share of x", reference_id
                )
                if rows and await tx.execute(_ADD_EMBEDDING, reference_id, model, seal_embedding(tx.vault, reference_id, vector)):
                    generation = await _tell(tx, "put", _subject(rows[0]), [uuid.UUID(reference_id)])
        return generation

    def _open_face(self, sealed: bytes, reference_id: uuid.UUID | str) -> bytes:
        return self._db.vault.open(sealed, label=label_of("face", reference_id))

    async def _subject_id(self, name: str, collection: str, details: SubjectDetails) -> str:
        """Return the id of a subject, made if new; locked against erasure until the transaction ends."""
        await self._db.execute(
            "insert into subject (collection, name) values ($1, $2) on conflict (collection, name) do nothing", collection, name
        )
        rows = await self._db.fetch("select subject_id from subject where collection = $1 and name = $2 for key share", collection, name)
        if not rows:
            raise ConflictError(f"subject '{name}': was erased or renamed at this moment; try again")
        if details != SubjectDetails():
            await self._merge(str(rows[0]["subject_id"]), details)
        return str(rows[0]["subject_id"])

    async def _merge(self, subject_id: str, details: SubjectDetails) -> None:
        """Merge details into a subject, and tell the matchers when its expiry changes."""
        before = await self.subject(subject_id)
        consent = None if details.consent is None else dict(details.consent)
        await self._db.execute(_MERGE_SUBJECT, subject_id, dict(details.attributes), consent, details.expires_at)
        if details.expires_at not in (None, before.expires_at):
            rows = await self._db.fetch("select reference_id from reference where subject_id = $1 order by reference_id", subject_id)
            await _tell(self._db, "put", before, [row["reference_id"] for row in rows])


def reference_id_of(subject_id: str, content_sha256: bytes, face_index: int) -> uuid.UUID:
    """Return uuid5 of subject, content and face: enrolling a photo twice makes one reference."""
    return uuid.uuid5(uuid.UUID(subject_id), f"{content_sha256.hex()}/{face_index}")


async def _tell(tx: Database, action: str, subject: Subject, reference_ids: Sequence[uuid.UUID]) -> int:
    """Record changes under new generations, tell the listeners at commit, and return the last generation.

    Each change takes two old ones away: who is further behind than KEEP_CHANGES loads the gallery again, as for any gap.
    """
    rows = await tx.fetch("update gallery_generation set generation = generation + $1 returning generation", len(reference_ids))
    last = int(rows[0]["generation"])
    first = last - len(reference_ids) + 1
    changes = [
        (first + place, action, subject.collection, subject.subject_id, reference_id) for place, reference_id in enumerate(reference_ids)
    ]
    await tx.executemany(_ADD_CHANGE, changes)
    await tx.execute(_TRIM_CHANGES, 2 * len(changes), KEEP_CHANGES)
    await tx.execute("select pg_notify($1, $2)", CHANNEL, str(last))
    return last


def _subject(row: dict[str, Any]) -> Subject:
    return Subject(
        subject_id=str(row["subject_id"]),
        collection=row["collection"],
        name=row["name"],
        attributes=row["attributes"],
        consent=row["consent"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
        references=row["reference_count"],
    )


def _reference(row: dict[str, Any]) -> Reference:
    return Reference(
        reference_id=str(row["reference_id"]),
        subject_id=str(row["subject_id"]),
        source=row["source"],
        quality=row["quality"],
        quality_reasons=tuple(row["quality_reasons"]),
        created_at=row["created_at"],
        models=tuple(row["models"]),
    )


def _points(landmarks: Sequence[float]) -> F32:
    return np.asarray(landmarks, np.float32).reshape(5, 2)


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _name_or_nothing(key: str) -> str | None:
    return clean_name(key) if key.strip() and "\x00" not in key and len(key) <= 200 else None
