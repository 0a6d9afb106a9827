"""Who may ask: token, host name and origin checks, and the headers that keep browsers safe. Pure, but for aiohttp's request type."""

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

from api.access.authenticator import SAFE_METHODS
from api.errors import ForbiddenError
from core.errors import SettingsError
from core.settings import ApiSettings

MIN_TOKEN = 16  # characters
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


def check_api_settings(settings: ApiSettings) -> None:
    """Refuse a token that can be guessed. Raises SettingsError."""
    token = None if settings.token is None else settings.token.get_secret_value()
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii()):
        raise SettingsError(f"api.token: needs at least {MIN_TOKEN} ASCII characters; 'openssl rand -hex 24' makes one")


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address means this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_host(request: web.Request, settings: ApiSettings) -> None:
    """Refuse requests that reach a loopback server by a foreign name (DNS rebinding).

    Raises:
        ForbiddenError: the Host header names neither this machine nor one of the configured names.
    """
    if not is_loopback(settings.host):
        return
    name = _host_name(request.headers.get("Host", ""))
    if not is_loopback(name) and name.lower() not in settings.names:
        raise ForbiddenError(f"Host {name[:100]!r} is not this machine; ask for http://127.0.0.1:{settings.port}")


def is_allowed_origin(request: web.Request, settings: ApiSettings) -> bool:
    """Tell whether a web page of a listed site asks (CORS)."""
    return request.headers.get("Origin", "") in settings.cors_origins


def cors_headers(request: web.Request, settings: ApiSettings) -> dict[str, str]:
    """Return the headers that let scripts of listed sites read an answer. No credentials: they use keys, never a visitor's session."""
    if not settings.cors_origins:
        return {}
    if not is_allowed_origin(request, settings):
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": request.headers["Origin"],
        "Access-Control-Expose-Headers": "ETag, Location, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, X-Request-ID",
    }


def preflight(request: web.Request, settings: ApiSettings) -> web.Response | None:
    """Return the answer to a browser that asks whether a listed site's script may send a request; None when it is no such question."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers or not is_allowed_origin(request, settings):
        return None
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
            "Access-Control-Allow-Headers": (
                "Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID, X-Api-Key, X-Purpose, X-Request-ID"
            ),
            "Access-Control-Max-Age": "600",
        },
    )


def check_origin(request: web.Request, settings: ApiSettings) -> None:
    """Refuse changes that a foreign web page asks for through somebody's browser.

    Raises:
        ForbiddenError: a browser says that another site is asking.
    """
    if request.method in SAFE_METHODS or is_allowed_origin(request, settings):
        return
    origin = request.headers.get("Origin")
    if origin is not None and _authority(origin) != request.headers.get("Host", "").lower():
        raise ForbiddenError(f"Origin {origin[:100]!r} may not change anything here")
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise ForbiddenError("another site may not change anything here")


def require_same_origin(request: web.Request) -> None:
    """Refuse what a foreign web page opens through somebody's browser, whatever the method: WebSockets know no same-origin policy.

    Raises:
        ForbiddenError: a browser says that another site is asking.
    """
    origin = request.headers.get("Origin")
    if origin is not None and _authority(origin) != request.headers.get("Host", "").lower():
        raise ForbiddenError(f"Origin {origin[:100]!r} may not listen here")


def _host_name(header: str) -> str:
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0]


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
