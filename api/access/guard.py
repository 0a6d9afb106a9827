"""Before a handler runs: who asks, how often, may they; and while a stream runs: may they still."""

import asyncio
import math
from typing import Final

from aiohttp import web

from api.access.authenticator import Identity
from api.access.limits import Verdict
from api.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from api.principal import PRINCIPAL, principal
from api.route import Handler, Route
from api.services import STRANGERS, services
from core.errors import SightlineError, UnavailableError, UsageError
from core.runner import first_error

IDENTITY = web.RequestKey("identity", Identity)
RATE = web.RequestKey("rate", Verdict)
STREAM_CHECK_S: Final = 0.5
"""How soon a stream of somebody who may no longer see it ends."""
STRANGER_BODY_S: Final = 10.0
"""For a body with the key in it to come: some megabytes over a local network."""


async def admit(request: web.Request, route: Route | None) -> None:
    """Let a request in; paths that are no route need proof too, so that nobody learns what there is.

    Raises:
        UnauthorizedError, ForbiddenError, TooManyRequestsError: as their names say.
    """
    access = services(request).access
    if route is not None and route.needs is None:
        if route.tag != "health":
            access.count_stranger(request)
        return
    identity = await access.authenticate(request, await _body_key(request, route))
    request[IDENTITY], request[PRINCIPAL] = identity, identity.principal
    if (rate := access.rate(identity)) is not None:
        request[RATE] = rate
    access.count(identity, rate)
    if route is not None and route.needs is not None and route.needs != "identity":
        try:
            identity.principal.require(route.needs)
        except ForbiddenError:
            services(request).metrics.api_refused.labels("forbidden").inc()
            raise


async def while_allowed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the handler of a stream, and cut its connection when who asks may no longer see it, or sees something else by now."""
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(_watch(request), name="still allowed?")
            try:
                return await handler(request)
            finally:
                watcher.cancel()
    except BaseExceptionGroup as failed:  # the boundary of a stream: whatever ended it goes on as it was raised
        raise first_error(failed) from failed


async def visible_cameras(request: web.Request) -> frozenset[str] | None:
    """Return the names of the cameras that who asks may see, at most a second old; None = all there are and will be."""
    granted = principal(request).camera_groups
    return None if granted is None else await services(request).access.cameras(granted)


async def sees(request: web.Request, *, camera: str, collection: str) -> bool:
    """Tell whether who asks may see what a camera saw, compared with a collection."""
    cameras = await visible_cameras(request)
    return (cameras is None or camera in cameras) and principal(request).sees_collection(collection)


def rate_headers(request: web.Request) -> dict[str, str]:
    """Return the headers that say how often who asks may ask again."""
    rate = request.get(RATE)
    if rate is None:
        return {}
    return {
        "RateLimit-Limit": str(rate.limit),
        "RateLimit-Remaining": str(rate.left),
        "RateLimit-Reset": str(math.ceil(rate.full_s)),
    }


async def _body_key(request: web.Request, route: Route | None) -> str | None:
    """Return the key that the body has, where it may be there; bodies of strangers are read only so often, a few at a time.

    Raises:
        SightlineError: the body can't be read, or does not come. TooManyRequestsError: see Authenticator.require_room.
    """
    access = services(request).access
    if route is None or route.body_key is None or access.shows_key(request):
        return None
    access.require_room(request)
    try:
        async with request.app[STRANGERS].turn(), asyncio.timeout(STRANGER_BODY_S):
            return await route.body_key(request)
    except TimeoutError as err:
        access.count_stranger(request)
        raise UsageError(f"the body did not come within {STRANGER_BODY_S:.0f} s") from err
    except SightlineError:
        access.count_stranger(request)
        raise


async def _watch(request: web.Request) -> None:
    while True:
        await asyncio.sleep(STREAM_CHECK_S)
        if not await _still_allowed(request):
            if request.transport is not None:
                request.transport.abort()
            return


async def _still_allowed(request: web.Request) -> bool:
    access = services(request).access
    try:
        identity = await access.authenticate(request)
    except (UnauthorizedError, ForbiddenError, TooManyRequestsError):
        return False
    except UnavailableError:
        return True  # the database is away for the moment: nothing new comes through this stream either
    access.note_use(identity)
    return identity.principal == principal(request)
