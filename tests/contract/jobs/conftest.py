"""Jobs over HTTP, on a real database, with a real shard and painted people."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from api.jobs.runner import JobRunner
from api.services import ApiServices
from core.ports import Database
from enrollment.store import GalleryStore
from sightings.forgetting import forget_subject
from tests.builders.api import Platform
from tests.builders.jobs import open_runner


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
