"""Slow and greedy clients: a connection that does not say what it wants is cut, and too many are not taken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from api.app import build_app, serve
from core.ports import Database
from core.settings import ApiSettings
from tests.builders.api import TOKEN, services

HEAD = f"GET /v1/sightings HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


@asynccontextmanager
async def serving(db: Database, **api: float) -> AsyncIterator[tuple[str, int]]:
    settings = ApiSettings(port=0, **api)  # type: ignore[arg-type]
    async with serve(build_app(services(db, api=settings))) as url:
        yield urlsplit(url).hostname or "", urlsplit(url).port or 0


async def ended(reader: asyncio.StreamReader, within_s: float = 5.0) -> bytes:
    """Return what came until the server closed the connection."""
    data = b""
    async with asyncio.timeout(within_s):
        try:
            while chunk := await reader.read(65536):
                data += chunk
        except ConnectionError:
            pass
    return data


async def test_a_client_that_trickles_its_request_head_is_cut(db: Database) -> None:
    async with serving(db, headers_s=0.5) as where:
        reader, writer = await asyncio.open_connection(*where)
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        async def trickle() -> None:
            writer.write(HEAD)
            for number in range(1000):
                writer.write(f"X-{number}: a\r\n".encode())
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await ended(reader) == b""
        assert 0.4 < loop.time() - began_s < 3.0
        trickling.cancel()
        writer.close()


async def test_a_client_that_says_nothing_is_cut(db: Database) -> None:
    async with serving(db, headers_s=0.3) as where:
        reader, writer = await asyncio.open_connection(*where)
        assert await ended(reader) == b""
        writer.close()


async def test_a_connection_that_asks_again_and_again_stays(db: Database) -> None:
    async with serving(db, headers_s=0.3) as where:
        reader, writer = await asyncio.open_connection(*where)
        for _ in range(3):
            await asyncio.sleep(0.2)  # longer than headers_s in all: only the first head has to come so soon
            writer.write(HEAD + b"\r\n")
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK")
                length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
                await reader.readexactly(length)
        writer.close()


async def test_slow_clients_do_not_keep_others_out(db: Database) -> None:
    async with serving(db, headers_s=0.5, max_connections=20) as where:
        slow = [await asyncio.open_connection(*where) for _ in range(20)]
        refused_reader, refused = await asyncio.open_connection(*where)
        assert await ended(refused_reader) == b""  # more than are taken: closed at once
        for reader, _ in slow:
            assert await ended(reader) == b""
        reader, writer = await asyncio.open_connection(*where)
        writer.write(HEAD + b"Connection: close\r\n\r\n")
        assert (await ended(reader)).startswith(b"HTTP/1.1 200 OK")
        for one in (refused, writer, *(w for _, w in slow)):
            one.close()


@pytest.mark.parametrize("tail", [b"\r\n", b"Content-Length: 100000\r\nContent-Type: application/json\r\n\r\n{"])
async def test_who_is_not_known_holds_no_connection_by_a_body_that_never_comes(db: Database, tail: bytes) -> None:
    async with serving(db, headers_s=0.5) as where:
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"POST /v1/subjects HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" + tail)
        assert (await ended(reader, 20.0)).startswith(b"HTTP/1.1 401 Unauthorized")
        writer.close()
