"""Who may ask: token, host name and origin checks, and the headers that keep browsers safe. Pure, but for aiohttp's request type."""

import hmac
import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

from api.errors import ForbiddenError, UnauthorizedError
from api.principal import PERMISSIONS, Principal
from core.errors import SettingsError
from core.settings import ApiSettings

ADMINISTRATOR = Principal(actor="settings", name="administrator", role="admin", permissions=PERMISSIONS)
MIN_TOKEN = 16  # characters
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
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
    """Refuse a server that strangers could use.

    Raises:
        SettingsError: bound beyond this machine without a token, or with one that can be guessed.
    """
    token = None if settings.token is None else settings.token.get_secret_value()
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii()):
        raise SettingsError(f"api.token: needs at least {MIN_TOKEN} ASCII characters; 'openssl rand -hex 24' makes one")
    if token is None and not is_loopback(settings.host):
        raise SettingsError(f"api.host: {settings.host} can be reached by other machines, so set api.token too (or use 127.0.0.1)")


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address means this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_host(request: web.Request, settings: ApiSettings) -> None:
    """Refuse requests that reach a loopback server by a foreign name (DNS rebinding).

    Raises:
        ForbiddenError: the Host header names neither this machine nor the configured host.
    """
    if not is_loopback(settings.host):
        return
    name = _host_name(request.headers.get("Host", ""))
    if not is_loopback(name):
        raise ForbiddenError(f"Host {name[:100]!r} is not this machine; ask for http://127.0.0.1:{settings.port}")


def check_origin(request: web.Request) -> None:
    """Refuse changes that a foreign web page asks for through somebody's browser.

    Raises:
        ForbiddenError: a browser says that another site is asking.
    """
    if request.method in _SAFE_METHODS:
        return
    origin = request.headers.get("Origin")
    if origin is not None and _authority(origin) != request.headers.get("Host", "").lower():
        raise ForbiddenError(f"Origin {origin[:100]!r} may not change anything here")
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise ForbiddenError("another site may not change anything here")


def authenticate(request: web.Request, settings: ApiSettings) -> Principal:
    """Return who asks: whoever has the token of the settings is an administrator.

    Raises:
        UnauthorizedError: the token is missing or wrong.
    """
    if settings.token is None:
        return ADMINISTRATOR
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    expected = settings.token.get_secret_value().encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(errors="surrogateescape"), expected):
        raise UnauthorizedError("send the API's token in the header 'Authorization: Bearer ...'")
    return ADMINISTRATOR


def _host_name(header: str) -> str:
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0]


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
