"""Pictures as they leave the server."""

from aiohttp import web


async def picture(request: web.Request, jpeg: bytes, *, name: str) -> web.Response:
    """Return a JPEG.

    Args:
        request: whose principal decides what is shown.
        jpeg: the picture as it is stored.
        name: of the picture, for caches of what was made of it: an id that changes with the content.
    """
    return web.Response(body=jpeg, content_type="image/jpeg")
