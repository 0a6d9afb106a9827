"""Waiting for a server that is away: ask again, ever more seldom, say so once, and lose nothing meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from core.errors import UnavailableError

T = TypeVar("T")
FIRST_S = 0.1
MOST_S = 2.0  # a server that is back is noticed within this

Sleep = Callable[[float], Awaitable[None]]

_log = structlog.get_logger("recognize")


def _ignore(_value: float) -> None:
    """Count nothing."""


class Patience:
    """Repeats a call until it is answered. Thread rule: one event loop; calls may wait side by side."""

    def __init__(
        self,
        what: str,
        *,
        waiting: Callable[[float], None] = _ignore,
        waited: Callable[[float], None] = _ignore,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Compose one.

        Args:
            what: is waited for, for the log.
            waiting: told 1 when waiting begins and 0 when it ends.
            waited: told the seconds of each pause.
            sleep: as asyncio.sleep.
        """
        self._what = what
        self._waiting = waiting
        self._waited = waited
        self._sleep = sleep
        self._calls = 0

    async def until_done(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what ``call`` returns, repeating it while it raises UnavailableError; may be cancelled at any time."""
        try:
            return await call()
        except UnavailableError as err:
            reason = str(err)
        self._begin(reason)
        try:
            return await self._repeat(call)
        finally:
            self._end()

    async def _repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        pause_s = FIRST_S
        while True:
            await self._sleep(pause_s)
            self._waited(pause_s)
            pause_s = min(2 * pause_s, MOST_S)
            try:
                return await call()
            except UnavailableError:
                continue

    def _begin(self, reason: str) -> None:
        self._calls += 1
        if self._calls == 1:
            self._waiting(1)
            _log.warning(f"waiting for {self._what}", reason=reason)

    def _end(self) -> None:
        self._calls -= 1
        if self._calls == 0:
            self._waiting(0)
            _log.warning(f"no longer waiting for {self._what}")
