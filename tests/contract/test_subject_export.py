"""The right of access: all of one person, nothing of others."""

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.services import ApiServices
from core.audit.store import AuditFilter, AuditStore
from core.jpeg import decode_jpeg, encode_jpeg
from core.ports import Database
from recognize.vision import Vision
from tests.builders.access import make_key
from tests.builders.api import ADMIN, services
from tests.builders.gallery import new_reference
from tests.builders.painted import PaintedDetector, PaintedEmbedder, painted
from tests.builders.sightings import NOW_S, arrival

ClientMaker = Callable[..., Awaitable[TestClient]]
PICTURE = encode_jpeg(painted({1: (150, 60), 2: (20, 60)}, width_px=380, height_px=200), 95)


@pytest.fixture
def behind(db: Database) -> Iterator[ApiServices]:
    with ThreadPoolExecutor(1) as pool:
        yield services(db, vision=Vision(PaintedDetector(), PaintedEmbedder(), pool))  # type: ignore[arg-type]


@pytest.fixture
async def client(behind: ApiServices, aiohttp_client: ClientMaker) -> TestClient:
    return await aiohttp_client(build_app(behind))


async def person(behind: ApiServices) -> str:
    added = await behind.gallery.add_reference("Ada", new_reference(7, face_jpeg=PICTURE), collection="default")
    subject_id: str = added.subject_id
    await behind.sightings.record(
        [arrival("hers", subject="alice", subject_id=subject_id, thumbnail=PICTURE), arrival("not-hers", first_s=60, thumbnail=PICTURE)],
        now_s=NOW_S,
    )
    return subject_id


async def test_all_of_one_person_and_nobody_else(db: Database, client: TestClient, behind: ApiServices) -> None:
    subject_id = await person(behind)
    await client.get(f"/v1/subjects/{subject_id}", headers=ADMIN | {"X-Purpose": "a look"})
    response = await client.post(f"/v1/subjects/{subject_id}/export", headers=ADMIN)
    assert (response.status, response.content_type) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(await response.read())) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["sha256"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert manifest["left_out"] == []
    assert json.loads(files["subject.json"])["name"] == "Ada"
    lines = {
        name: [json.loads(line) for line in files[f"{name}.jsonl"].splitlines()] for name in ("sightings", "episodes", "alerts", "audit")
    }
    assert [one["subject_id"] for one in lines["sightings"]] == [subject_id]
    assert (len(lines["episodes"]), lines["alerts"]) == (1, [])
    assert [(one["action"], one["purpose"]) for one in lines["audit"]] == [("subject.read", "a look"), ("subject.export", "")]
    pictures = [data for name, data in files.items() if name.endswith(".jpg")]
    assert len(pictures) == 2
    for jpeg in pictures:
        columns = np.abs(np.diff(decode_jpeg(jpeg)[60:140, :, 0].astype(int), axis=1))
        assert columns[:, 150:229].mean() > 4
        assert columns[:, 20:99].mean() < 4  # the bystander
    entries = []
    async with asyncio.timeout(5):
        while len(entries) < 2:  # its end is kept when the client has it all
            entries, _ = await AuditStore(db).query(AuditFilter(action="subject.export"), limit=9)
    assert [json.loads(one.draft.details)["stream"] for one in entries] == ["ended", "begun"]


async def test_who_may_not_export_gets_nothing(db: Database, client: TestClient, behind: ApiServices) -> None:
    subject_id = await person(behind)
    for role in ("viewer", "operator", "enroller", "service"):
        key = await make_key(db, role)  # type: ignore[arg-type]
        assert (await client.post(f"/v1/subjects/{subject_id}/export", headers={"Authorization": f"Bearer {key.text}"})).status == 403
    foreign = await make_key(db, "admin", collections=("elsewhere",))
    for path in (f"/v1/subjects/{subject_id}/export", "/v1/subjects/nonsense/export"):
        assert (await client.post(path, headers={"Authorization": f"Bearer {foreign.text}"})).status == 404
