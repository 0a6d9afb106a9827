"""Live events as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import asyncio

from aiohttp import web

from api.live.hub import Subscription
from api.live.models import EventQuery
from api.services import services
from api.uploads import read_query

HEARTBEAT_S = 15.0
WRITE_S = 10.0  # a client whose network takes nothing for so long is gone
RETRY_MS = 2000


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Send events until the client leaves, falls behind, or the server stops."""
    given = read_query(request, EventQuery).last_event_id or request.headers.get("Last-Event-ID")
    with services(request).events.subscribe(given) as (subscription, gap):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        try:
            await _write(response, f"retry: {RETRY_MS}\n\n" + ("event: reset\ndata: {}\n\n" if gap else ""))
            await _send(response, subscription)
        except ConnectionError:
            pass  # the client has left: the usual end
        except TimeoutError:
            subscription.behind = True
        if subscription.behind and request.transport is not None:
            request.transport.abort()  # what waits in the socket would never be taken
    return response


async def _send(response: web.StreamResponse, subscription: Subscription) -> None:
    while not subscription.ended:
        event = await subscription.next(HEARTBEAT_S)
        if event is not None:
            await _write(response, f"id: {subscription.id_of(event)}\nevent: {event.kind}\ndata: {event.data}\n\n")
        elif not subscription.ended:
            await _write(response, ": still here\n\n")


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(text.encode())
