"""Connections: how many, and how long one may take to say what it wants. aiohttp waits for a request's head for an hour.

Every connection has a deadline, but for the time in which a request of it is being answered (the route's own limit counts then):
until the head of its first request is there, and after each answer until the answer is taken and the head of the next one is there.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, cast

from aiohttp import web

from api.access.address import Network, bucket_of
from core.metrics import Metrics
from core.settings import ApiSettings

NEXT_S: Final = 75.0  # for an answer to be taken, and the next request to come


class Connections:
    """The open connections of a server. Thread rule: one event loop."""

    def __init__(self, settings: ApiSettings, metrics: Metrics, *, exempt: Sequence[Network] = ()) -> None:
        """Set the limits; ``exempt`` addresses have only the limit of all together."""
        self._settings, self._metrics = settings, metrics
        self._exempt = tuple(exempt)
        self._deadlines: dict[asyncio.BaseTransport, asyncio.TimerHandle | None] = {}
        self._addresses: Counter[str] = Counter()

    def begin(self, transport: asyncio.Transport) -> bool:
        """Take a connection and set its deadline; False (and it is closed) when there are too many."""
        address = _address(transport)
        many = self._addresses[address] >= self._settings.max_connections_per_address and not self._is_exempt(transport)
        if many or len(self._deadlines) >= self._settings.max_connections:
            self._cut(transport, "full")
            return False
        self._addresses[address] += 1
        self._deadlines[transport] = None
        self._set(transport, self._settings.headers_s)
        self._metrics.api_connections.set(len(self._deadlines))
        return True

    def asked(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that the head of a request is there: its route's limits count now."""
        if transport in self._deadlines and (deadline := self._deadlines[transport]) is not None:
            deadline.cancel()
            self._deadlines[transport] = None

    def answered(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that the answer is there to be taken."""
        if transport in self._deadlines:
            self._set(transport, NEXT_S)

    def end(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection that is lost."""
        if transport not in self._deadlines:
            return
        if (deadline := self._deadlines.pop(transport)) is not None:
            deadline.cancel()
        address = _address(transport)
        self._addresses[address] -= 1
        if self._addresses[address] <= 0:
            del self._addresses[address]
        self._metrics.api_connections.set(len(self._deadlines))

    def _set(self, transport: asyncio.BaseTransport, seconds: float) -> None:
        if (before := self._deadlines[transport]) is not None:
            before.cancel()
        self._deadlines[transport] = asyncio.get_running_loop().call_later(seconds, self._cut, transport, "slow")

    def _cut(self, transport: asyncio.BaseTransport, reason: str) -> None:
        self._metrics.api_connections_cut.labels(reason).inc()
        cast(asyncio.Transport, transport).abort()

    def _is_exempt(self, transport: asyncio.BaseTransport) -> bool:
        peer = transport.get_extra_info("peername")
        if not isinstance(peer, tuple):
            return True  # no address at all: a local socket
        address = ip_address(str(peer[0]).partition("%")[0])
        return address.is_loopback or any(address.version == one.version and address in one for one in self._exempt)


class GuardedProtocol(asyncio.Protocol):
    """Passes everything on to aiohttp's protocol, and tells ``Connections`` of the beginning and the end."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner, self._connections = inner, connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        stream = cast(asyncio.Transport, transport)
        if self._connections.begin(stream):
            self._transport = stream
            self._inner.connection_made(stream)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._inner.eof_received() if self._transport is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._transport is not None:
            self._connections.end(self._transport)
            self._inner.connection_lost(exc)
            self._transport = None

    def pause_writing(self) -> None:
        """Pass on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._inner.resume_writing()


CONNECTIONS = web.AppKey("connections", Connections)


def guarded(make: Callable[[], asyncio.Protocol], connections: Connections) -> Callable[[], GuardedProtocol]:
    """Return a factory of guarded protocols."""
    return lambda: GuardedProtocol(make(), connections)


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return bucket_of(str(peer[0])) if isinstance(peer, tuple) and peer else ""
