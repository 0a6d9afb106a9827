"""Heavy work with a bounded queue: a few at a time, and what would wait too long is refused at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.errors import BusyError


class Turns:
    """Lets callers in a few at a time, in order, and only so many wait. Thread rule: one event loop."""

    def __init__(self, what: str, *, at_once: int, most: int) -> None:
        """Set the limits.

        Args:
            what: name of the work in the plural, for the error.
            at_once: how many may be inside.
            most: how many may be inside or wait.
        """
        self._what = what
        self._inside = asyncio.Semaphore(at_once)
        self._most = most
        self._held = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn.

        Raises:
            BusyError: so many wait already.
        """
        if self._held >= self._most:
            raise BusyError(f"{self._held} {self._what} run or wait; try again in a moment")
        self._held += 1
        try:
            async with self._inside:
                yield
        finally:
            self._held -= 1
