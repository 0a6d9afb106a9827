"""Heavy work off the event loop, with a bounded queue: what would wait too long is refused at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar

from api.errors import BusyError

T = TypeVar("T")


class BoundedWork:
    """An executor that takes only so much. Thread rule: called on one event loop."""

    def __init__(self, executor: Executor, *, most: int) -> None:
        """Use an executor.

        Args:
            executor: runs the work; owned by the caller.
            most: how many pieces may run or wait at once.
        """
        self._executor = executor
        self._most = most
        self._held = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run synchronous work and return its result. A cancelled caller's place is free again only when its work has ended.

        Raises:
            BusyError: so much waits already.
        """
        if self._held >= self._most:
            raise BusyError(f"{self._held} photos are being looked at or wait; try again in a moment")
        loop = asyncio.get_running_loop()
        future = self._executor.submit(work)
        self._held += 1
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(future)

    def _release(self) -> None:
        self._held -= 1


class Turns:
    """Lets callers in one at a time, and only so many wait. Thread rule: one event loop."""

    def __init__(self, *, most: int) -> None:
        self._lock = asyncio.Lock()
        self._most = most
        self._held = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn.

        Raises:
            BusyError: so many wait already.
        """
        if self._held >= self._most:
            raise BusyError(f"{self._held} imports run or wait; try again in a moment")
        self._held += 1
        try:
            async with self._lock:
                yield
        finally:
            self._held -= 1
