"""What was read a moment ago: saves a query a request, and is never older than it may be."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class _Entry(Generic[V]):
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    found: tuple[float, V] | None = None


class ShortMemory(Generic[K, V]):
    """Values by key, read again when they are older than ``keep_s``; of many who ask at once, one reads. Thread rule: one event loop."""

    def __init__(self, read: Callable[[K], Awaitable[V]], *, keep_s: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep up to ``most`` values, the last used ones."""
        self._read, self._keep_s, self._most, self._clock = read, keep_s, most, clock
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    def known(self, key: K) -> V | None:
        """Return a value that needs no reading, None when there is none."""
        entry = self._entries.get(key)
        return entry.found[1] if entry is not None and entry.found is not None and self._fresh(entry.found[0]) else None

    async def get(self, key: K) -> V:
        """Return a value that was true at most ``keep_s`` ago, and after the last :meth:`forget`."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            if len(self._entries) > self._most:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        if entry.found is not None and self._fresh(entry.found[0]):
            return entry.found[1]
        async with entry.lock:
            if entry.found is None or not self._fresh(entry.found[0]):
                began_s = self._clock()  # what is read is as old as the question
                value = await self._read(key)
                entry.found = (began_s, value)
                return value
            return entry.found[1]

    def forget(self) -> None:
        """Forget all; what is being read now is not kept either."""
        self._entries.clear()

    def _fresh(self, at_s: float) -> bool:
        return self._clock() - at_s < self._keep_s
