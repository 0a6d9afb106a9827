"""The API over painted people and a real database, as most contracts need it; a file that needs other parts overrides ``behind``."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.services import ApiServices
from core.ports import Database
from tests.builders.api import ADMIN, Platform, services


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def behind(db: Database, platform: Platform) -> ApiServices:
    return services(db, platform=platform)


@pytest.fixture
async def client(behind: ApiServices, aiohttp_client: Callable[..., Awaitable[TestClient]]) -> TestClient:
    return await aiohttp_client(build_app(behind), headers=ADMIN)
