"""Pictures as they leave the server: of bystanders nothing is left that tells who they are, for who may not see them."""

import asyncio
import time
from collections import OrderedDict
from typing import Final

import structlog
from aiohttp import web

from api.notes import note
from api.principal import principal
from api.services import services
from core.errors import NotFoundError, SightlineError, UnreadableMediaError
from core.jpeg import decode_jpeg, encode_jpeg
from core.types import F32, Image
from detect.blur import Own, blur_faces, blur_whole, bystanders
from recognize.still import StillRecognizer

QUALITY: Final = 85
DETECT_S: Final = 5.0
"""A detector that takes longer has failed: then all of the picture is blurred."""
CACHE_BYTES: Final = 32 << 20
CACHE_S: Final = 300.0

_log = structlog.get_logger(__name__)


class Blurred:
    """Pictures that were blurred lately, by name. Thread rule: one event loop."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def get(self, name: str, own: str) -> bytes | None:
        """Return a picture that was put here within CACHE_S."""
        self._trim()
        found = self._held.get((name, own))
        return found[1] if found else None

    def put(self, name: str, own: str, jpeg: bytes) -> None:
        """Hold a picture; the oldest ones go."""
        self._bytes -= len(self._held.pop((name, own), (0.0, b""))[1])
        self._held[name, own] = (time.monotonic(), jpeg)
        self._bytes += len(jpeg)
        self._trim()

    def _trim(self) -> None:
        oldest_s = time.monotonic() - CACHE_S
        while self._held and (self._bytes > CACHE_BYTES or next(iter(self._held.values()))[0] < oldest_s):
            self._bytes -= len(self._held.popitem(last=False)[1][1])


BLURRED = web.AppKey("blurred", Blurred)


async def picture(request: web.Request, jpeg: bytes, *, name: str, own: Own | tuple[float, float, float, float] = "nobody") -> web.Response:
    """Return a JPEG, its bystanders blurred for who may not see them (permission images.unblurred).

    Args:
        request: whose principal decides what is shown.
        jpeg: the picture as it is stored.
        name: of the picture, for caches of what was made of it: an id that changes with the content.
        own: whose face everybody may see who may see the picture: that of the named subject in the middle, or in a box (pixels of the
            picture); of a stranger's picture nobody's.

    Raises:
        NotFoundError: the picture is damaged, so that nobody can be blurred in it.
    """
    if not principal(request).may("images.unblurred"):
        cache, where = request.app[BLURRED], str(own)
        found = cache.get(name, where)
        if found is None:
            found = await without_bystanders(services(request).still, jpeg, own=own)
            cache.put(name, where, found)
        jpeg = found
        note(request, blurred=True)
    return web.Response(body=jpeg, content_type="image/jpeg")


async def without_bystanders(still: StillRecognizer, jpeg: bytes, *, own: Own | tuple[float, float, float, float]) -> bytes:
    """Return a JPEG in which only one face can be told, or none; where faces can't be looked for, nothing can.

    Raises:
        NotFoundError: the picture is damaged.
    """
    try:
        image = await asyncio.to_thread(decode_jpeg, jpeg)
    except UnreadableMediaError as err:
        raise NotFoundError("the picture is damaged: nobody can be blurred in it, so it is not shown") from err
    return await asyncio.to_thread(_made, image, await _boxes(still, image), own)


async def _boxes(still: StillRecognizer, image: Image) -> F32 | None:
    """Return all faces (n, 4); None when nobody can say."""
    try:
        async with asyncio.timeout(DETECT_S):
            return await still.boxes(image)
    except (SightlineError, TimeoutError) as err:
        _log.warning("faces can't be looked for: the whole picture is blurred", reason=str(err) or type(err).__name__)
        return None


def _made(image: Image, boxes: F32 | None, own: Own | tuple[float, float, float, float]) -> bytes:
    if boxes is None:
        return encode_jpeg(blur_whole(image), QUALITY)
    height, width = image.shape[:2]
    return encode_jpeg(blur_faces(image, boxes[bystanders(boxes, own, width, height)]), QUALITY)
