"""A TCP proxy that misbehaves on demand: cuts, refuses, delays and half-closes the connections that run through it."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

CHUNK_BYTES = 1 << 16
MAX_HELD_CHUNKS = 256
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing sends a reset instead of an orderly end."""


@dataclass(eq=False, slots=True)
class _Link:
    """One connection: the client's side and the server's."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter


class TcpProxy:
    """Forwards a loopback port to a server, from a thread of its own. Use as a context manager, or call ``close``.

    Thread rule: any thread; each call returns when it has taken effect.
    """

    def __init__(self, target_host: str, target_port: int, *, port: int = 0) -> None:
        self._target = (target_host, target_port)
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay_s = 0.0
        self._refusing = False
        self.connections = 0
        """Accepted so far, refused ones included."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", port), self._loop).result(5)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> "TcpProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut everything and stop."""
        self._call(self._server.close)
        self.cut()
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def cut(self) -> None:
        """Reset every open connection; new ones are served."""
        self._call(self._cut)

    def refuse(self) -> None:
        """Reset open connections, and every new one at once, until ``heal``."""
        self._refusing = True
        self.cut()

    def delay(self, seconds: float) -> None:
        """Hold every byte back for so long, in both directions and in order, until ``heal``."""
        self._delay_s = seconds

    def half_close(self) -> None:
        """End what open connections bring from the server, while what the client sends still arrives; new connections work."""
        self._call(self._half_close)

    def heal(self) -> None:
        """Serve again, without delay."""
        self._refusing, self._delay_s = False, 0.0

    @property
    def open(self) -> int:
        """Connections that run through it now."""
        return self._call(lambda: len(self._links))

    def _call(self, action: Callable[[], T]) -> T:
        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)

    def _cut(self) -> None:
        for link in self._links:
            for end in (link.client, link.server):
                _reset(end)
        self._links.clear()

    def _half_close(self) -> None:
        for link in self._links:
            with contextlib.suppress(OSError, RuntimeError):
                link.client.write_eof()

    async def _drain(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            _reset(client)
            return
        try:
            back, server = await asyncio.open_connection(*self._target)
        except OSError:  # the server is away: its clients see what they would see without us
            _reset(client)
            return
        link = _Link(client, server)
        self._links.add(link)
        for source, sink in ((reader, server), (back, client)):
            task = asyncio.create_task(self._pump(source, sink, link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: _Link) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_HELD_CHUNKS)
        forward = asyncio.create_task(self._forward(held, sink))
        try:
            while data := await source.read(CHUNK_BYTES):
                await held.put((self._loop.time() + self._delay_s, data))
            await held.put((self._loop.time() + self._delay_s, b""))
            await forward
        except OSError:
            self._drop(link)
        finally:
            forward.cancel()
            if sink.is_closing() or source.at_eof():
                self._drop_when_over(link)

    async def _forward(self, held: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the other side went, or we half-closed it: the rest is for nobody
            while True:
                due, data = await held.get()
                if (wait_s := due - self._loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                if not data:
                    sink.write_eof()
                    return
                sink.write(data)
                await sink.drain()
        while True:  # swallow, so that the sender does not stall
            await held.get()

    def _drop(self, link: _Link) -> None:
        for end in (link.client, link.server):
            _reset(end)
        self._links.discard(link)

    def _drop_when_over(self, link: _Link) -> None:
        """Forget a connection that the server has ended: clients close when they see the end."""
        if link.server.is_closing() or link.client.is_closing():
            self._drop(link)


def _reset(end: asyncio.StreamWriter) -> None:
    raw = end.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.transport.abort()
