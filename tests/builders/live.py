"""A running reader of the log of events, and clients of its streams."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from api.live.hub import EventHub
from core.events import Told, tell_each
from core.ports import Database

WAIT_S = 5.0


async def told(db: Database, count: int, **where: Any) -> None:
    """Tell of changes of the gallery."""
    async with db.transaction() as tx:
        await tell_each(tx, "gallery", [Told(key=f"g{n}", revision=n, **where) for n in range(1, count + 1)])


@asynccontextmanager
async def reading(hub: EventHub) -> AsyncIterator[EventHub]:
    """Let a hub read the log inside the block."""
    task = asyncio.create_task(hub.run())
    try:
        await hub.begun()
        yield hub
    finally:
        task.cancel()
        await asyncio.wait({task})


class Stream:
    """A stream of server-sent events, as its client sees it."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, str, Any]:
        """Return (id, kind, data) of the next event; comments are passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                lines = (await self.response.content.readuntil(b"\n\n")).decode().strip().splitlines()
                event = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
                if "data" in event:
                    return event.get("id", ""), event["event"], json.loads(event["data"])


@asynccontextmanager
async def following(client: TestClient, query: str = "", headers: Mapping[str, str] | None = None) -> AsyncIterator[Stream]:
    """Follow live events inside the block."""
    async with client.get(f"/v1/events{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)
