"""How the cameras are."""

from aiohttp import web

from api.cameras.models import CameraList
from api.route import answer
from api.services import services


async def list_cameras(request: web.Request) -> web.Response:
    """Return how the cameras are."""
    return answer(CameraList(cameras=list(await services(request).cameras())))
