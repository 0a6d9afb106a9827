"""What happens around every handler: request id, guard, time limit, errors, metrics, headers."""

import asyncio
import re
import time
import uuid
from collections.abc import Mapping

import structlog
from aiohttp import web

from api.access.guard import admit, rate_headers, while_allowed
from api.audit.keeping import check_purpose, keep, keep_begin
from api.connections import CONNECTIONS
from api.errors import error_response, response_of, response_of_http
from api.idempotency import HEADER, once
from api.models import ErrorEnvelope
from api.route import Handler, Route
from api.security import SECURITY_HEADERS, check_host, check_origin, cors_headers, preflight
from api.services import services
from core.errors import SightlineError, UnavailableError

REQUEST_ID = web.RequestKey("request_id", str)
ID_HEADER = "X-Request-ID"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
TABLE = web.AppKey("table", Mapping[tuple[str, str], Route])

_log = structlog.get_logger(__name__)


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every request with its id, in time, with our error envelope; count it, and keep it in the audit."""
    given = request.headers.get(ID_HEADER, "")
    request[REQUEST_ID] = given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
    route = _route(request)
    began_s = time.perf_counter()
    connections = request.app.get(CONNECTIONS)
    if connections is not None:
        connections.asked(request.transport)
    status = 500  # what aiohttp answers when a handler breaks, and `add_headers` puts into our envelope
    try:
        response = await _answered(request, handler, route)
        if route is not None and route.audit and response.status != 429:  # nothing was looked at, and strangers could fill the audit
            response = await _kept(request, route, response)
        status = response.status
    finally:
        if connections is not None:
            connections.answered(request.transport)
        label = route.path if route else "none"
        services(request).metrics.api_requests.labels(label, route.method if route else "none", str(status)).inc()
        if route is None or route.limit_s is not None:
            services(request).metrics.api_seconds.labels(label).observe(time.perf_counter() - began_s)
    return response


async def _answered(request: web.Request, handler: Handler, route: Route | None) -> web.StreamResponse:
    """Return the answer, or what an error of ours or aiohttp's becomes."""
    request_id = request[REQUEST_ID]
    try:
        return await _guarded(request, handler, route)
    except SightlineError as err:
        response = response_of(err, request_id=request_id)
        if response.status >= 500:
            _log.warning("request failed", request_id=request_id, path=request.path, status=response.status, reason=str(err))
        return response
    except web.HTTPException as err:
        response = response_of_http(err, request_id=request_id)
        if response.status == 405:
            response.headers["Allow"] = ", ".join(sorted(_methods(request) or {response.headers.get("Allow", "")}))
        return response
    except (Exception, asyncio.CancelledError):  # the boundary of a request: a fault of ours, or the server stops; what was done is kept
        if route is not None and route.audit:
            await _kept(request, route, web.Response(status=500))
        raise


async def _kept(request: web.Request, route: Route, response: web.StreamResponse) -> web.StreamResponse:
    """Keep the request in the audit; what can't be kept is not shown."""
    request_id = request[REQUEST_ID]
    try:
        await keep(request, route, response, request_id)
    except UnavailableError as err:
        _log.error("audit entry lost", request_id=request_id, action=route.audit, status=response.status, reason=str(err))
        if response.status < 400 and not response.prepared:
            return response_of(err, request_id=request_id)
    return response


@web.middleware
async def in_their_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell failures as the clients of a compatible interface expect them."""
    response = await handler(request)
    route = _route(request)
    if route is None or route.failure is None or response.status < 400 or not isinstance(response, web.Response):
        return response
    body = response.body
    error = ErrorEnvelope.model_validate_json(body if isinstance(body, bytes) else b"{}").error
    theirs = route.failure(response.status, error.code, error.message)
    theirs.headers.update({name: value for name, value in response.headers.items() if name in ("Retry-After", "WWW-Authenticate")})
    return theirs


async def _guarded(request: web.Request, handler: Handler, route: Route | None) -> web.StreamResponse:
    settings = services(request).settings.api
    check_host(request, settings)
    check_origin(request, settings)
    if (response := preflight(request, settings)) is not None:
        return response
    await admit(request, route)
    if route is not None and route.needs is not None:
        check_purpose(request, route)
    if route is not None and route.audit and route.limit_s is None:
        await keep_begin(request, route, request[REQUEST_ID])
    limit_s = route.limit_s if route else None
    if route is not None and limit_s is None:
        return await while_allowed(request, handler)
    try:
        async with asyncio.timeout(limit_s) as limit:
            if route is not None and route.is_once and HEADER in request.headers:
                reads_body = bool(route.body or route.form)
                return await once(request, handler, reads_body=reads_body, request_id=request[REQUEST_ID])
            return await handler(request)
    except TimeoutError:
        if not limit.expired():
            raise
        return error_response(503, "timeout", f"the request took longer than {limit_s:.0f} s", request_id=request[REQUEST_ID])


def _methods(request: web.Request) -> set[str]:
    """Return what a path that is spelt out in the table allows, not what it would as an id of another one."""
    methods: set[str] = {method for method, path in request.app[TABLE] if path == request.path}
    return methods | ({"HEAD"} if "GET" in methods else set())


def _route(request: web.Request) -> Route | None:
    resource = request.match_info.route.resource
    method = "GET" if request.method == "HEAD" else request.method
    return request.app[TABLE].get((method, resource.canonical)) if resource else None


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the request id and security headers to every response; put an answer that aiohttp made itself into our envelope."""
    request_id = request.get(REQUEST_ID) or uuid.uuid4().hex
    if isinstance(response, web.Response) and response.status == 500 and response.content_type != "application/json":
        ours = error_response(500, "error", "the server failed; its log has more under the request id", request_id=request_id)
        response.body, response.content_type = ours.body, ours.content_type
        response.headers["Content-Length"] = str(len(ours.text or ""))  # aiohttp has counted its own text before this hook
    response.headers[ID_HEADER] = request_id
    response.headers["Server"] = "sightline"  # not which versions of what
    response.headers.update(rate_headers(request) | cors_headers(request, services(request).settings.api))
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
