"""The gallery in PostgreSQL: subjects and their references.

Every change takes the one row of ``gallery_generation``, so generations have no gaps and follow commit order, and is told on the
channel ``gallery`` with its generation as payload (enrollment/changes.py).
"""

from collections.abc import Sequence

from core.errors import ConflictError, NotFoundError
from core.events import tell
from core.ports import Database
from core.sealing import SealedColumn
from core.vault import label_of
from enrollment.changes import tell_changes
from enrollment.changing import change_subject, enter_subject, locked_subject
from enrollment.erasing import Forget, forget_with_merged, keep_receipt
from enrollment.record import Added, Counts, NewReference, Receipt, Subject, SubjectChange, SubjectDetails, clean_name
from enrollment.references import SEALED as SEALED_REFERENCES
from enrollment.references import Check, ReferenceStore, reference_id_of
from enrollment.rows import SUBJECTS, name_or_nothing, subject_of, uuid_or_nothing
from enrollment.set_aside import forget_set_aside

__all__ = ["SEALED", "Check", "Forget", "GalleryStore", "reference_id_of"]

SEALED = (
    *SEALED_REFERENCES,
    SealedColumn(table="set_aside", key="set_aside_id", column="picture", label=lambda row: label_of("set aside", row["set_aside_id"])),
    SealedColumn(table="subject_merge", key="merge_id", column="survivor", label=lambda row: label_of("survivor", row["merge_id"])),
    SealedColumn(table="subject_merge", key="merge_id", column="merged", label=lambda row: label_of("merged", row["merge_id"])),
)
"""Every sealed column of this room."""
MAX_PAGE = 1000


class GalleryStore(ReferenceStore):
    """Collections, subjects and references. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, *, forget: Forget) -> None:
        """Keep SQL of the gallery in one place.

        Args:
            db: the database, or a transaction of it.
            forget: how an erased subject is erased from sightings too, in the same transaction.
        """
        super().__init__(db)
        self._forget = forget

    async def collections(self) -> list[str]:
        """Return the names of all collections."""
        return [row["name"] for row in await self._db.fetch("select name from collection order by name")]

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
            SUBJECTS + "where ($1::text is null or s.collection = $1) and s.name > $2 order by s.name, s.collection limit $3",
            collection,
            after,
            max(1, min(limit, MAX_PAGE)),
        )
        return [subject_of(row) for row in rows]

    async def subject(self, key: str, *, collection: str | None = None) -> Subject:
        """Return a subject by id or by name.

        Raises:
            NotFoundError: there is none. ConflictError: several collections have one of this name.
        """
        subject_id = uuid_or_nothing(key)
        rows = await self._db.fetch(
            SUBJECTS + "where (s.subject_id = $1 or s.name = $2) and ($3::text is null or s.collection = $3) order by s.collection",
            subject_id,
            name_or_nothing(key),
            collection,
        )
        by_id = [row for row in rows if row["subject_id"] == subject_id]
        if not rows:
            where = f" in collection {collection}" if collection else ""
            raise NotFoundError(f"subject '{key[:80]}'{where}: there is none; 'sightline subjects list' shows all")
        if len(rows) > 1 and not by_id:
            raise ConflictError(f"subject '{key[:80]}': is in {', '.join(row['collection'] for row in rows)}; name the collection")
        return subject_of((by_id or rows)[0])

    async def make_subject(self, name: str, *, collection: str, details: SubjectDetails | None = None) -> Subject:
        """Make a subject without references.

        Raises:
            ConflictError: the name or the external id is taken. UsageError: a value that can't be.
        """
        async with self._db.transaction() as tx:
            subject = await enter_subject(tx, clean_name(name), collection, details or SubjectDetails(), new=True)
            await tell(tx, "gallery", [(subject.subject_id, subject.version)], collection=collection)
        return subject

    async def make_subject_with(
        self, name: str, faces: Sequence[tuple[NewReference, Check | None]], *, collection: str, details: SubjectDetails
    ) -> list[Added]:
        """Make a subject with references, all of it or nothing.

        Raises:
            ConflictError, UsageError: see make_subject. Whatever a check raises.
        """
        async with self._db.transaction() as tx:
            subject = await enter_subject(tx, clean_name(name), collection, details, new=True)
            added = [await self._add(tx, subject, new, check) for new, check in faces]
            await tell(tx, "gallery", [(subject.subject_id, subject.version)], collection=collection)
        return added

    async def discard_empty(self, subject_id: str) -> bool:
        """Delete a subject that has no references and that nothing was ever matched with; tell whether it was one."""
        return bool(
            await self._db.execute(
                "delete from subject s where subject_id = $1 and not exists (select from reference r where r.subject_id = s.subject_id)",
                uuid_or_nothing(subject_id),
            )
        )

    async def rename(self, key: str, new_name: str, *, collection: str | None = None) -> Subject:
        """Give a subject another name; the matchers learn it with the next generations.

        Raises:
            NotFoundError, ConflictError: no such subject; the new name is taken. UsageError: the name can't be.
        """
        return (await self.change(key, {"name": new_name}, collection=collection))[0]

    async def change(
        self, key: str, change: SubjectChange, *, collection: str | None = None, version: int | None = None
    ) -> tuple[Subject, int | None]:
        """Change what is recorded of a subject; see enrollment.changing.change_subject for the arguments.

        Returns:
            The subject as it is now, and the gallery's generation if the matchers must learn of it.

        Raises:
            NotFoundError, StaleError, ConflictError, UsageError: see there.
        """
        async with self._db.transaction() as tx:
            subject = await GalleryStore(tx, forget=self._forget).subject(key, collection=collection)
            return await change_subject(tx, subject.subject_id, change, version=version)

    async def erase(self, key: str, *, collection: str | None = None) -> Receipt:
        """Erase a subject: references, faces, embeddings, and the name and pictures in all sightings, in one transaction.

        Raises:
            NotFoundError, ConflictError: see subject.
        """
        async with self._db.transaction() as tx:
            subject = await GalleryStore(tx, forget=self._forget).subject(key, collection=collection)
            covered = await forget_with_merged(self._forget, tx, subject.subject_id)
            covered["set_aside"] = await forget_set_aside(tx, subject.subject_id)
            await locked_subject(tx, subject.subject_id)  # there still: a merge or another erasure may have come first
            embeddings = await tx.execute(
                "delete from reference_embedding e using reference r where e.reference_id = r.reference_id and r.subject_id = $1",
                subject.subject_id,
            )
            rows = await tx.fetch("delete from reference where subject_id = $1 returning reference_id", subject.subject_id)
            await tx.execute("delete from subject where subject_id = $1", subject.subject_id)
            gone = sorted(row["reference_id"] for row in rows)
            generation = await tell_changes(tx, "delete", collection=subject.collection, subject_id=subject.subject_id, reference_ids=gone)
            covered |= {"references": len(rows), "embeddings": embeddings}
            receipt = await keep_receipt(tx, subject, covered, self._forget, generation)
            await tell(tx, "gallery", [(subject.subject_id, subject.version + 1)], collection=subject.collection)
        return receipt
