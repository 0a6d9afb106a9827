"""What a kind of job must be able to do for the runner."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from api.jobs.files import JobFiles
from api.jobs.lease import Lease
from api.jobs.record import Item, NewItem


class Session(Protocol):
    """One job, opened."""

    batch: int
    """Items that are taken together."""

    async def list_items(self) -> Sequence[NewItem]:
        """Return what is to do. Raises SightlineError: the job can't be done."""
        ...

    async def work(self, items: Sequence[Item], lease: Lease) -> None:
        """Do some items and record each with the lease.

        Raises:
            UnavailableError: nothing can be done at the moment, whichever item; they are taken again.
            Exception: one of the items can't be done; they are taken again, in ever smaller batches, and set apart in the end.
        """
        ...


class Work(Protocol):
    """A kind of job."""

    def open(self, lease: Lease, files: JobFiles) -> AbstractAsyncContextManager[Session]:
        """Open a job. Raises SightlineError: it can't be done."""
        ...
