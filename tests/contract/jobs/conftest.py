"""Jobs over HTTP, on a real database, with a real shard and painted people."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.jobs.runner import JobRunner
from api.services import ApiServices
from core.ports import Database
from enrollment.store import GalleryStore
from sightings.forgetting import forget_subject
from tests.builders.api import ADMIN, Platform, services
from tests.builders.jobs import open_runner


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def behind(db: Database, platform: Platform) -> ApiServices:
    return services(db, platform=platform)


@pytest.fixture
async def client(behind: ApiServices, aiohttp_client: Callable[..., Awaitable[TestClient]]) -> TestClient:
    return await aiohttp_client(build_app(behind), headers=ADMIN)


@pytest.fixture
async def runner(db: Database, behind: ApiServices, tmp_path: Path) -> AsyncIterator[JobRunner]:
    async with open_runner(db, tmp_path, objects=behind.objects, still=behind.still, max_attempts=3) as one:
        yield one


@pytest.fixture
async def alice(db: Database, platform: Platform) -> str:
    """Alice, enrolled and known to the matcher under the id that the store gave her."""
    subject = await GalleryStore(db, forget=forget_subject).make_subject("alice", collection="default")
    platform.matcher.known["alice"] = np.array([1, 0, 0, 0], np.float32)
    wanted = str(uuid.uuid5(uuid.NAMESPACE_DNS, "alice"))
    await db.execute("update subject set subject_id = $2 where subject_id = $1", subject.subject_id, wanted)
    return wanted
