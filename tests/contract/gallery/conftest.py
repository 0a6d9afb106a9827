"""The API over painted people, a real shard and a real database."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from api.services import ApiServices
from core.ports import Database
from enrollment.service import Enroller
from tests.builders.api import services
from tests.builders.gallery import open_enroller


@pytest.fixture
async def enroller(db: Database) -> AsyncIterator[Enroller]:
    async with open_enroller(db) as one:
        yield one


@pytest.fixture
def behind(db: Database, enroller: Enroller) -> ApiServices:
    return replace(services(db), enroller=enroller, await_visible=enroller.await_visible)
