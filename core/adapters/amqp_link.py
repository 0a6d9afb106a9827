"""A connection that is kept: opened again after each loss, with a growing, scattered pause."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import structlog

from core.adapters.amqp_connection import AmqpConnection
from core.adapters.amqp_url import AmqpAddress
from core.errors import SettingsError, UnavailableError
from core.metrics import Metrics

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.5  # a server that is back is found within this; a refused attempt costs it little
STABLE_S: Final = 10.0  # a connection that held so long was a good one: the next loss starts with the shortest pause

Purpose = Literal["publish", "consume"]
Serve = Callable[[AmqpConnection], Awaitable[None]]
"""Works on a connection until that is lost."""
_log = structlog.get_logger(__name__)


def pause_s(attempt: int, random_0_1: float) -> float:
    """Return how long to wait before an attempt: doubling, capped, scattered over its upper half so that a fleet does not come as one."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt, 16)) * (0.5 + 0.5 * random_0_1)


class AmqpLink:
    """Keeps one connection for one purpose.

    Publishers and consumers have one each: a server that blocks publishers reads nothing more from their connection, and the consumers'
    acknowledgements must not wait behind it.
    """

    def __init__(self, address: AmqpAddress, *, name: str, purpose: Purpose, serve: Serve, metrics: Metrics) -> None:
        self._address = address
        self._name = f"{name} ({purpose})"
        self._purpose = purpose
        self._serve = serve
        self._is_up = metrics.broker_connected.labels(connection=purpose)
        self._losses = metrics.broker_connections_lost.labels(connection=purpose)
        self._blocked = metrics.broker_blocked
        self._connection: AmqpConnection | None = None

    async def connect(self) -> None:
        """Open the first connection. Raises UnavailableError, SettingsError."""
        self._connection = await AmqpConnection.open(self._address, name=self._name, on_blocked=self._on_blocked)
        self._is_up.set(1)

    async def keep(self) -> None:
        """Serve the connection, and each that follows it, for ever."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            if self._connection is None:
                attempt = await self._connect_again(attempt)
            since_s = loop.time()
            attempt = 0 if await self._served() - since_s >= STABLE_S else attempt + 1

    async def close(self) -> None:
        """Close the connection, in bounded time."""
        if self._connection is not None:
            await self._connection.close()
            self._is_up.set(0)

    async def _served(self) -> float:
        """Serve the connection until it is lost; return when that was."""
        connection = self._connection
        assert connection is not None
        await self._serve(connection)
        await asyncio.wait([connection.lost])
        self._connection = None
        self._is_up.set(0)
        self._losses.inc()
        _log.warning("broker connection lost", server=str(self._address), purpose=self._purpose, reason=connection.lost.result())
        return asyncio.get_running_loop().time()

    async def _connect_again(self, attempt: int) -> int:
        """Open a new connection, however long that takes; return the number of the attempt."""
        while True:
            await asyncio.sleep(pause_s(attempt, random.random()))
            try:
                await self.connect()
            except (UnavailableError, SettingsError) as err:  # an account may be refused while the server still starts
                attempt += 1
                _log.warning("broker does not come back", purpose=self._purpose, attempt=attempt, reason=str(err))
            else:
                _log.warning("broker connected again", server=str(self._address), purpose=self._purpose)
                return attempt

    def _on_blocked(self, blocked: bool) -> None:
        if self._purpose == "publish":
            self._blocked.set(int(blocked))
            if blocked:
                _log.warning("broker blocks publishers", server=str(self._address))
