"""An endpoint that takes webhooks, as another system would run it."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

WAIT_S = 10.0


@dataclass
class Receiver:
    """Answers what it is told to, and keeps what it got."""

    url: str = ""
    got: asyncio.Queue[tuple[Mapping[str, str], bytes]] = field(default_factory=asyncio.Queue)
    answers: deque[web.Response] = field(default_factory=deque)
    """For the next requests; 200 when there is none."""
    hold: asyncio.Event | None = None
    """No answer before it is set."""

    async def next(self) -> tuple[Mapping[str, str], dict[str, Any]]:
        """Return headers and body of the next request."""
        async with asyncio.timeout(WAIT_S):
            headers, body = await self.got.get()
        return headers, json.loads(body)

    async def _take(self, request: web.Request) -> web.Response:
        self.got.put_nowait((request.headers.copy(), await request.read()))
        if self.hold is not None:
            await self.hold.wait()
        return self.answers.popleft() if self.answers else web.Response()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Run an endpoint inside the block."""
    one = Receiver()
    app = web.Application()
    app.router.add_post("/hook", one._take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield one
    finally:
        if one.hold is not None:
            one.hold.set()
        await runner.cleanup()
