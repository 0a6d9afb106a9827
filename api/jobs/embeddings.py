"""Bulk import of embeddings: references of another system, hundreds in a transaction together with what the job says of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np

from api.jobs.files import JobFiles
from api.jobs.lease import Lease
from api.jobs.outcomes import done_of, plain
from api.jobs.record import Item, Job, NewItem
from core.errors import UnavailableError, UsageError
from enrollment.bulk import BATCH, MAX_DIMENSIONS, MIN_DIMENSIONS, BulkEnroller, Precomputed, Space
from enrollment.embeddings import EmbeddingFile, read_embeddings
from enrollment.imports import Naming
from enrollment.service import EnrollOptions
from enrollment.telling import newest

ASK: Final = "name it in `model`, or in the file"


class EmbeddingImport:
    """An import of embeddings. What is stored and what the job says of it commit together: a kill leaves neither without the other."""

    batch = BATCH

    def __init__(
        self,
        file: EmbeddingFile,
        space: Space,
        *,
        bulk: BulkEnroller,
        await_visible: Callable[[int], Awaitable[None]],
        given: tuple[Naming, EnrollOptions],
    ) -> None:
        self._file, self._space, self._bulk, self._await_visible = file, space, bulk, await_visible
        self._naming, self._options = given

    @classmethod
    async def open(
        cls,
        job: Job,
        files: JobFiles,
        *,
        bulk: BulkEnroller,
        own: Space,
        await_visible: Callable[[int], Awaitable[None]],
        given: tuple[Naming, EnrollOptions],
    ) -> "EmbeddingImport":
        """Read the file.

        Args:
            job: of the format ``embeddings``.
            files: where it is.
            bulk: stores them.
            own: of the model in use.
            await_visible: see ImportWork.
            given: how files become subjects, and the options.

        Raises:
            UnreadableMediaError, UsageError: it can't be read, or nobody says which model made it.
        """
        file = await asyncio.to_thread(read_embeddings, await files.upload(job.params["upload_id"]), "the file")
        named = job.params.get("model")
        if named and file.model and named != file.model:
            raise UsageError(f"model: the request says {named}, the file {file.model}")
        model = named or file.model
        if not model:
            raise UsageError(f"model: embeddings can only be compared with those of the same model; {ASK}")
        dimensions = (
            own.dimensions if model == own.model else next((len(v) for v in file.vectors if not isinstance(v, str)), MIN_DIMENSIONS)
        )
        if not MIN_DIMENSIONS <= dimensions <= MAX_DIMENSIONS:
            raise UsageError(f"embeddings: have {dimensions} numbers, {MIN_DIMENSIONS} to {MAX_DIMENSIONS} are taken")
        return cls(file, Space(model=model, dimensions=dimensions), bulk=bulk, await_visible=await_visible, given=given)

    async def list_items(self) -> list[NewItem]:
        """List the rows."""
        file = self._file
        return [
            NewItem(
                input={"file": plain(file.sources[n]) if file.sources else f"row {n + 1}"},
                subject=plain(self._naming.subject or file.subjects[n]) or None,
            )
            for n in range(len(file))
        ]

    async def work(self, items: Sequence[Item], lease: Lease) -> None:
        """Store some rows."""
        given = [self._row(item) for item in items]
        judged = await self._bulk.judge(lease.db, given, space=self._space, options=self._options)
        async with lease.writing() as tx:
            outcomes = await self._bulk.store(tx, judged, self._naming.details)
            done = [done_of(item.seq, outcome, outcome.status) for item, outcome in zip(items, outcomes, strict=True)]
            await lease.record(tx, done)
        if (generation := newest(outcomes)) is not None:
            await self._await_visible(generation)  # once for all: the next batch is judged against this one

    def _row(self, item: Item) -> Precomputed:
        subject = item.subject or ""
        try:
            if item.seq >= len(self._file):
                raise UnavailableError("the upload has changed since the job began")
            row = self._file.row(item.seq)
        except UsageError as err:
            return Precomputed(source=item.input.get("file", ""), subject=subject, vector=np.zeros(0, np.float32), problem=str(err))
        return Precomputed(source=row.source, subject=subject, vector=row.vector, attributes=row.attributes)
