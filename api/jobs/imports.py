"""Bulk import: photos of a zip, a CSV or a folder, judged and stored as ``sightline enroll`` does it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

from api.jobs.embeddings import EmbeddingImport
from api.jobs.files import JobFiles
from api.jobs.lease import Lease
from api.jobs.outcomes import UNKEEPABLE, done_of, plain, put_off
from api.jobs.record import Done, Item, Job, NewItem
from api.jobs.work import Session
from core.errors import NotFoundError, UnavailableError, UnreadableMediaError
from core.ports import Database
from enrollment.archive import MAX_MEMBERS, open_archive
from enrollment.bulk import BulkEnroller, Space
from enrollment.imports import CSV_SUFFIX, MAX_CSV_BYTES, Entry, Naming, is_hidden, list_names, list_table, list_zip, read_csv
from enrollment.record import Outcome, Photo, SubjectDetails
from enrollment.service import EnrollOptions
from enrollment.telling import newest

BATCH: Final = 16  # photos between two looks at the lease; others get the models in between

Read = Callable[[str], Awaitable[bytes]]
EnrollAll = Callable[[Iterable[Photo], Callable[[Outcome], None], EnrollOptions], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportWork:
    """Bulk imports of all formats."""

    db: Database
    enroll_all: EnrollAll
    bulk: BulkEnroller
    dimensions: int
    """Of the model in use."""
    await_visible: Callable[[int], Awaitable[None]]
    max_attempts: int

    @asynccontextmanager
    async def open(self, lease: Lease, files: JobFiles) -> AsyncIterator[Session]:
        """Open an import."""
        job = lease.job
        naming = naming_of(job)
        options = EnrollOptions(
            collection=job.collection,
            allow_lookalike=bool(job.params.get("allow_lookalike")),
            on_doubt=job.params.get("on_doubt", "reject"),
            wait=False,
        )
        if job.params["format"] == "embeddings":
            own = Space(model=self.bulk.model, dimensions=self.dimensions)
            yield await EmbeddingImport.open(job, files, bulk=self.bulk, own=own, await_visible=self.await_visible, given=(naming, options))
            return
        source = await open_photos(job, files)
        yield PhotoImport(job=job, source=source, naming=naming, options=options, work=self)


class PhotoImport:
    """An import of photos."""

    batch = BATCH

    def __init__(self, *, job: Job, source: "PhotoSource", naming: Naming, options: EnrollOptions, work: ImportWork) -> None:
        self._job, self._source, self._naming, self._options, self._work = job, source, naming, options, work

    async def list_items(self) -> list[NewItem]:
        """List the photos."""
        return [kept(entry) for entry in await self._source.entries(self._naming)]

    async def work(self, items: Sequence[Item], lease: Lease) -> None:
        """Enrol some photos."""
        photos: list[Photo] = []
        places: list[Item] = []
        later: list[Done] = []
        for item in items:
            entry = entry_of(item)
            try:
                data = b"" if entry.problem else await self._source.read(entry.target)
            except UnavailableError as err:
                later.append(put_off(item, str(err), most=self._work.max_attempts))
                continue
            except (NotFoundError, UnreadableMediaError) as err:
                photos.append(entry.photo(self._naming, _raising(err)))
            else:
                photos.append(entry.photo(self._naming, _returning(data)))
            places.append(item)
        outcomes: list[Outcome] = []
        try:
            if photos:
                await self._work.enroll_all(photos, outcomes.append, self._options)
        finally:
            told = list(zip(places, outcomes, strict=False))  # what was told before an outage is stored, and so recorded
            done = [await self._done(item, outcome) for item, outcome in told]
            if done or later:
                await asyncio.shield(lease.finish([*done, *later]))
        if (generation := newest(outcomes)) is not None:
            await self._work.await_visible(generation)  # once for all

    async def _done(self, item: Item, outcome: Outcome) -> Done:
        """Return what became of a photo; what a killed process had stored already was enrolled by this job, not known before."""
        status = outcome.status
        if status == "unchanged" and item.attempts > 1 and await self._is_ours(outcome):
            status = "enrolled"
        return done_of(item.seq, outcome, status)

    async def _is_ours(self, outcome: Outcome) -> bool:
        sql = "select created_at >= $2 as ours from reference where reference_id = $1"
        rows = await self._work.db.fetch(sql, outcome.reference_id, self._job.created_at)
        return bool(rows and rows[0]["ours"])


def kept(entry: Entry) -> NewItem:
    """Return an entry as an item keeps it, in text that the database takes: names in zips may hold anything."""
    if plain(entry.target) != entry.target:
        entry = Entry(file=entry.file, subject=entry.subject, problem=UNKEEPABLE)
    given = {"file": plain(entry.file), "target": entry.target, "attributes": entry.attributes, "problem": entry.problem}
    return NewItem(input={key: value for key, value in given.items() if value}, subject=plain(entry.subject) or None)


def entry_of(item: Item) -> Entry:
    """Return the entry that an item keeps."""
    given = item.input
    return Entry(
        file=given.get("file", ""),
        subject=item.subject or "",
        target=given.get("target", ""),
        attributes=given.get("attributes", {}),
        problem=given.get("problem", ""),
    )


def naming_of(job: Job) -> Naming:
    """Return how the files of a job become subjects."""
    params = job.params
    details = SubjectDetails(
        consent=params.get("consent"), expires_at=datetime.fromisoformat(params["expires_at"]) if params.get("expires_at") else None
    )
    return Naming(subject=params.get("subject"), numbered=bool(params.get("numbered")), details=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSource:
    """Where a job's photos come from."""

    entries: Callable[[Naming], Awaitable[list[Entry]]]
    read: Read


async def open_photos(job: Job, files: JobFiles) -> PhotoSource:
    """Open the zip, CSV or folder of an import.

    Raises:
        NotFoundError: there is none. UnreadableMediaError, UsageError: it can't be read at all.
    """
    params = job.params
    if params["format"] == "zip":
        archive = await asyncio.to_thread(open_archive, await files.upload(params["upload_id"]))

        async def zipped(naming: Naming) -> list[Entry]:
            return await asyncio.to_thread(lambda: list(list_zip(archive, naming)))

        return PhotoSource(entries=zipped, read=lambda name: asyncio.to_thread(archive.read, name))
    if params["format"] == "folder":
        prefix = params["prefix"]

        async def listed(naming: Naming) -> list[Entry]:
            names = visible_names(await files.names(prefix))
            tables = [name for name in names if name.lower().endswith(CSV_SUFFIX) and "/" not in name]
            if len(tables) != 1:
                return list(list_names(names, naming))
            data = await files.small(files.inbox(f"{prefix}/{tables[0]}"), most=MAX_CSV_BYTES)
            return _table(data, tables[0], set(names), naming, "the folder")

        return PhotoSource(entries=listed, read=lambda name: files.small(files.inbox(f"{prefix}/{name}")))
    return await _open_csv(params, files)


async def _open_csv(params: dict[str, Any], files: JobFiles) -> PhotoSource:
    table = await files.upload(params["upload_id"])
    data = await asyncio.to_thread(table.read_bytes)
    if params.get("photos_upload_id"):
        archive = await asyncio.to_thread(open_archive, await files.upload(params["photos_upload_id"]))
        names = {member.name for member in archive.members}

        async def zipped(naming: Naming) -> list[Entry]:
            return _table(data, "the CSV", names, naming, "the zip")

        return PhotoSource(entries=zipped, read=lambda name: asyncio.to_thread(archive.read, name))
    prefix = params["prefix"]

    async def listed(naming: Naming) -> list[Entry]:
        return _table(data, "the CSV", set(await files.names(prefix)), naming, "the folder")

    return PhotoSource(entries=listed, read=lambda name: files.small(files.inbox(f"{prefix}/{name}")))


def _table(data: bytes, name: str, names: set[str], naming: Naming, where: str) -> list[Entry]:
    if len(data) > MAX_CSV_BYTES:
        raise UnreadableMediaError(f"{name}: larger than {MAX_CSV_BYTES >> 20} MB; split it")
    rows = read_csv(data, name)
    if len(rows) > MAX_MEMBERS:
        raise UnreadableMediaError(f"{name}: has {len(rows)} rows, at most {MAX_MEMBERS} are read; split it")
    return list(list_table(rows, names, naming, base=PurePosixPath(), where=where))


def visible_names(names: Sequence[str]) -> list[str]:
    """Return the names that are no hidden files.

    Raises:
        UnreadableMediaError: more than MAX_MEMBERS.
    """
    shown = [name for name in names if not any(is_hidden(part) for part in PurePosixPath(name).parts)]
    if len(shown) > MAX_MEMBERS:
        raise UnreadableMediaError(f"the folder has {len(shown)} files, at most {MAX_MEMBERS} are read in a job; split it")
    return shown


def _returning(data: bytes) -> Callable[[str], bytes]:
    return lambda _: data


def _raising(err: Exception) -> Callable[[str], bytes]:
    def read(_: str) -> bytes:
        raise err

    return read
