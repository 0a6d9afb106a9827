"""Live events: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) and WebSocket (RFC 6455)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSCloseCode, WSMsgType, web

from api.errors import UpgradeRequiredError
from api.live.hub import Subscription
from api.live.models import EventQuery
from api.live.views import Shown, Wanted
from api.principal import principal
from api.security import require_same_origin
from api.services import services
from api.uploads import read_query
from core.errors import UnavailableError
from core.events import KINDS

HEARTBEAT_S = 15.0
WRITE_S = 10.0  # a client whose network takes nothing for so long is gone
RETRY_MS = 2000
MAX_MESSAGE_BYTES = 1024  # of what a WebSocket client sends: it has nothing to say
BEHIND = 4008
"""Close code: the client fell behind; it may resume."""


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Send events until the client leaves, falls behind, or the server stops."""
    async with _subscribed(request) as (subscription, missed):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        try:
            await _write(response, f"retry: {RETRY_MS}\n\n" + ("event: reset\ndata: {}\n\n" if missed else ""))
            async for batch in _batches(subscription):
                text = "".join(f"id: {one.event.event_id}\nevent: {one.event.kind}\ndata: {one.data}\n\n" for one in batch)
                await _write(response, text or ": still here\n\n")
        except (ConnectionError, UnavailableError):
            pass  # the client has left: the usual end; or the past can't be read: it comes again
        except TimeoutError:
            subscription.behind = True
        if subscription.behind and request.transport is not None:
            request.transport.abort()  # what waits in the socket would never be taken
    return response


async def stream_events_ws(request: web.Request) -> web.StreamResponse:
    """Send events as WebSocket messages until the client leaves, falls behind, or the server stops."""
    require_same_origin(request)
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES, timeout=WRITE_S, compress=False)
    if not socket.can_prepare(request):
        raise UpgradeRequiredError("this is a WebSocket; connect with ws:// or wss://")
    async with _subscribed(request) as (subscription, missed):
        await socket.prepare(request)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(socket, subscription), name="events.ws")
            if not await _send_all(socket, subscription, missed) and request.transport is not None:
                request.transport.abort()
            listening.cancel()
    return socket


@asynccontextmanager
async def _subscribed(request: web.Request) -> AsyncIterator[tuple[Subscription, bool]]:
    """Subscribe a request; also tell whether the client has missed events."""
    query = read_query(request, EventQuery)
    given = query.last_event_id if query.last_event_id is not None else request.headers.get("Last-Event-ID")
    known = given is not None and given.isascii() and given.isdecimal() and len(given) <= 18
    kinds = query.kinds and query.kinds.split(",")
    wanted = Wanted(
        kinds=frozenset(kind for kind in KINDS if kind in kinds) if kinds else None,
        camera=query.camera,
        watchlist=query.watchlist,
        subject=query.subject,
        news=query.news,
    )
    hub = services(request).events
    await hub.begun()
    with hub.subscribe(wanted, principal(request), after=int(given) if given is not None and known else None) as subscription:
        yield subscription, await subscription.missed() or (given is not None and not known)


async def _batches(subscription: Subscription) -> AsyncIterator[list[Shown]]:
    """Yield what comes; nothing now and then, as a sign of life."""
    while not subscription.ended:
        batch = await subscription.next(HEARTBEAT_S)
        if batch or not subscription.ended:
            yield batch


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(text.encode())


async def _send_all(socket: web.WebSocketResponse, subscription: Subscription, missed: bool) -> bool:
    """Send events until the subscription ends; False when the client takes nothing any more."""
    try:
        await _say(socket, '{"type":"reset"}' if missed else '{"type":"ready"}')
        async for batch in _batches(subscription):
            for one in batch:
                await _say(socket, '{"type":"event",' + one.envelope[1:])
        await socket.close(code=BEHIND if subscription.behind else WSCloseCode.GOING_AWAY)
    except UnavailableError:
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
    except (ConnectionError, TimeoutError):
        return False
    return True


async def _say(socket: web.WebSocketResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_S):
        await socket.send_str(text)


async def _listen(socket: web.WebSocketResponse, subscription: Subscription) -> None:
    """Take the client's pongs, and its leave; it has nothing else to say."""
    message = await socket.receive()
    if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
        await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"this stream takes no messages")
    subscription.end()
