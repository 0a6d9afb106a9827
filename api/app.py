"""The aiohttp application, and the server that runs it."""

import asyncio
import contextlib
import functools
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import msgspec
import structlog
from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, web

from api.access.address import networks
from api.audit.keeping import AUDIT
from api.cameras.trials import TRIALS, Trials
from api.connections import CONNECTIONS, NEXT_S, Connections, guarded
from api.images import BLURRED, Blurred
from api.middleware import TABLE, add_headers, around, in_their_words
from api.openapi import openapi_document
from api.route import Route
from api.security import check_api_settings
from api.services import ENROLLING, SEARCHING, SERVICES, STRANGERS, ApiServices
from api.system.pages import DOCUMENT
from api.table import ROUTES
from api.work import Turns
from core.audit.store import AuditStore
from core.audit.trail import AuditTrail
from core.errors import UnavailableError

WAITING_SEARCHES = 16  # uploads in memory; at 30 to 100 ms a photo the last one waits about a second
SEARCHES_AT_ONCE = 2  # decoded photos in memory (up to 192 MB each): one before the models, one on its way
ENROLMENTS_AT_ONCE = 8  # while one is looked at by the models, others are read, judged and stored
WAITING_ENROLMENTS = 64  # uploads that hold their photos in memory
STRANGERS_AT_ONCE = 8  # bodies that are read for the key in them: up to api.max_upload_bytes each
WAITING_STRANGERS = 64
SHUTDOWN_S = 5.0
BACKLOG = 512  # connections that wait to be taken
LINGERING_S = 3.0  # for who sends on when the answer is there already: read and ignored, so that the answer arrives

_log = structlog.get_logger(__name__)


def build_app(services: ApiServices) -> web.Application:
    """Return the application.

    Args:
        services: the parts behind it; they stay owned by the caller.

    Raises:
        SettingsError: it would be open to strangers (see api.security.check_api_settings).
    """
    check_api_settings(services.settings.api)
    for kind in (BadContentDispositionHeader, BadContentDispositionParam):
        warnings.simplefilter("ignore", kind)  # Python remembers each text it has warned of: clients could fill the memory
    app = web.Application(middlewares=[in_their_words, around], client_max_size=services.settings.api.max_upload_bytes)
    app[SERVICES] = services
    app[SEARCHING] = Turns("searches", at_once=SEARCHES_AT_ONCE, most=WAITING_SEARCHES)
    app[ENROLLING] = Turns("enrolments", at_once=ENROLMENTS_AT_ONCE, most=WAITING_ENROLMENTS)
    app[STRANGERS] = Turns("requests without a key in their headers", at_once=STRANGERS_AT_ONCE, most=WAITING_STRANGERS)
    table: Mapping[tuple[str, str], Route] = {(route.method, route.path): route for route in ROUTES}
    app[TABLE] = table
    app[AUDIT] = AuditTrail(AuditStore(services.db), services.metrics)
    app[BLURRED] = Blurred()
    app[DOCUMENT] = _document()
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler)
        if route.method == "GET" and route.limit_s is not None:
            app.router.add_route("HEAD", route.path, route.handler)
    trials = app[TRIALS] = Trials()
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(_end_streams)
    app.on_cleanup.append(lambda _: trials.close())
    app.on_cleanup.append(_keep_counted)
    return app


@asynccontextmanager
async def serve(app: web.Application) -> AsyncIterator[str]:
    """Listen where the settings say and yield the URL; requests in flight get a moment to finish at the end.

    Raises:
        UnavailableError: the port is taken or the host is not ours.
    """
    settings = app[SERVICES].settings.api
    connections = Connections(settings, app[SERVICES].metrics, exempt=networks(settings.trusted_proxies))
    app[CONNECTIONS] = connections
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_S,
        lingering_time=LINGERING_S,
        keepalive_timeout=NEXT_S,
    )
    await runner.setup()
    listening: asyncio.Server | None = None
    try:
        try:
            listening = await asyncio.get_running_loop().create_server(
                guarded(cast(Callable[[], asyncio.Protocol], runner.server), connections), settings.host, settings.port, backlog=BACKLOG
            )
        except OSError as err:
            raise UnavailableError(
                f"api: can't listen on {settings.host}:{settings.port}: {err.strerror}; choose another api.port"
            ) from err
        host, port = listening.sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("api listens", url=url)
        yield url
    finally:
        if listening is not None:
            listening.close()
        await runner.cleanup()


async def _end_streams(app: web.Application) -> None:
    app[SERVICES].events.close()


async def _keep_counted(app: web.Application) -> None:
    with contextlib.suppress(UnavailableError):  # the database is gone already: what was only counted goes with it
        await app[AUDIT].close()


@functools.cache
def _document() -> bytes:
    """Return the OpenAPI document: 0.3 s of work, the same in each application."""
    return msgspec.json.encode(openapi_document(ROUTES, version=_release()))


def _release() -> str:
    try:
        return version("sightline")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+source"
