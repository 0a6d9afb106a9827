"""The web pages: a few files of this package, without anything from elsewhere, and the API's own description."""

from functools import cache
from importlib.resources import files

from aiohttp import web

DOCUMENT = web.AppKey("document", bytes)
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


async def get_console(_request: web.Request) -> web.Response:
    """Return the live page."""
    return _page("console.html")


async def get_console_script(_request: web.Request) -> web.Response:
    """Return the live page's script."""
    return _page("console.js")


async def get_client_script(_request: web.Request) -> web.Response:
    """Return the script by which the pages talk to the API."""
    return _page("client.js")


async def get_style(_request: web.Request) -> web.Response:
    """Return the pages' style."""
    return _page("console.css")


async def get_icon(_request: web.Request) -> web.Response:
    """Return the pages' icon."""
    return _page("icon.svg")


async def get_docs(_request: web.Request) -> web.Response:
    """Return the page that shows the API's description."""
    return _page("docs.html")


async def get_docs_script(_request: web.Request) -> web.Response:
    """Return that page's script."""
    return _page("docs.js")


async def get_openapi(request: web.Request) -> web.Response:
    """Return the OpenAPI document."""
    return web.Response(body=request.app[DOCUMENT], content_type="application/json")


def _page(name: str) -> web.Response:
    response = web.Response(body=_read(name), content_type=_TYPES[name.rpartition(".")[2]], charset="utf-8")
    response.headers["Cache-Control"] = "no-cache"
    return response


@cache
def _read(name: str) -> bytes:
    return (files("api") / "console" / name).read_bytes()
