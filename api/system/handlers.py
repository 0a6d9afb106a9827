"""Is it alive, is it ready, how is it going."""

from aiohttp import web

from api.route import answer
from api.services import services
from api.system.models import Alive, Ready
from core.metrics import CONTENT_TYPE


async def get_healthz(_request: web.Request) -> web.Response:
    """Answer while the event loop turns."""
    return answer(Alive())


async def get_readyz(request: web.Request) -> web.Response:
    """Say what is missing before requests can be served."""
    checks = list(await services(request).readiness())
    ready = all(check.ok for check in checks)
    return answer(Ready(ready=ready, checks=checks), status=200 if ready else 503)


async def get_metrics(request: web.Request) -> web.Response:
    """Return the metrics of this process."""
    return web.Response(body=services(request).metrics.render(), headers={"Content-Type": CONTENT_TYPE})
