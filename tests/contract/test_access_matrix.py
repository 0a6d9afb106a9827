"""Every route, asked by every role: who gets in. Generated from the table, so a new route is covered the moment it is there."""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp.test_utils import TestClient

from api.access.matrix import gate, render
from api.app import build_app
from api.principal import ROLES, Role
from api.route import Route
from api.table import ROUTES
from core.metrics import Metrics
from core.ports import Database
from core.settings import ApiSettings
from tests.builders.access import bearer, make_key
from tests.builders.api import services
from tests.builders.live import reading

PAGE = Path(__file__).parents[2] / "docs" / "api" / "permissions.md"
HEADERS = {"X-Purpose": "test of permissions"}


async def status_of(client: TestClient, route: Route, headers: dict[str, str]) -> int:
    """Send a request that finds nothing and changes nothing, and return what it was answered."""
    path = re.sub(r"{(\w+)[^}]*}", lambda found: str(uuid.uuid4()) if found[1].endswith("_id") else "none-of-this-name", route.path)
    async with asyncio.timeout(10), client.request(route.method, path, headers=headers | HEADERS) as response:
        return response.status


def counted(metrics: Metrics, route: Route) -> dict[int, float]:
    """Return how often a route was answered with which status."""
    return {
        int(sample.labels["status"]): sample.value
        for family in metrics.api_requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and (sample.labels["route"], sample.labels["method"]) == (route.path, route.method)
    }


async def test_every_route_lets_in_whom_the_table_says(db: Database, aiohttp_client: Callable[..., Awaitable[TestClient]]) -> None:
    behind = services(db, api=ApiSettings(anonymous_per_minute=1_000_000))
    client = await aiohttp_client(build_app(behind))
    askers: dict[Role | None, dict[str, str]] = {None: {}}
    for role in ROLES:
        askers[role] = bearer(await make_key(db, role))
    wrong = []
    async with reading(behind.events):
        for route in ROUTES:
            for role, headers in askers.items():
                before = {} if route.failure is None else counted(behind.metrics, route)
                status, expected = await status_of(client, route, headers), gate(route, role)
                if route.failure is not None:  # it tells failures in words of its own: 401 may be told as 400
                    (status,) = (code for code, count in counted(behind.metrics, route).items() if count > before.get(code, 0))
                got = {401: "401", 403: "403"}.get(status, "in")
                fits = status != 403 if expected == "own" else got == expected
                if not fits or status == 500:
                    wrong.append(f"{route.method} {route.path} by {role or 'nobody'}: {status}, expected {expected}")
    assert not wrong, "\n".join(wrong)


def test_every_route_that_needs_nothing_is_known_by_name() -> None:
    open_routes = {(route.method, route.path) for route in ROUTES if route.needs is None and route.tag not in ("health", "pages")}
    assert open_routes == {("POST", "/v1/sessions"), ("PUT", "/v1/uploads/{upload_id}/content")}
    assert all(gate(route, None) == "own" for route in ROUTES if (route.method, route.path) in open_routes)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render(ROUTES), "renew it: python -m api.access.matrix > docs/api/permissions.md"
