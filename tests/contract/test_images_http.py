"""Who may not see bystanders gets pictures in which they can't be told."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from api.app import build_app
from core.errors import ModelError
from core.jpeg import decode_jpeg, encode_jpeg
from core.ports import Database
from core.types import Faces, Image
from core.vault import label_of
from recognize.vision import Vision
from tests.builders.access import make_key
from tests.builders.api import ADMIN, services
from tests.builders.painted import PaintedDetector, PaintedEmbedder, painted
from tests.builders.sightings import NOW_S, arrival

ClientMaker = Callable[..., Awaitable[TestClient]]
OWN, BYSTANDER = slice(150, 230), slice(20, 100)  # columns of their faces
ROWS = slice(60, 140)


class CountingDetector(PaintedDetector):
    """Counts its calls, and fails when it is told to."""

    def __init__(self) -> None:
        self.calls, self.broken = 0, False

    def scale_of(self, image: Image) -> float:
        return 1.0

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        self.calls += 1
        if self.broken:
            raise ModelError("centerface: out of memory")
        return super().detect(images)


@pytest.fixture
def detector() -> CountingDetector:
    return CountingDetector()


@pytest.fixture
def picture() -> bytes:
    """One person in the middle, another one at the left."""
    return encode_jpeg(painted({1: (150, 60), 2: (20, 60)}, width_px=380, height_px=200), 95)


@pytest.fixture
def vision(detector: CountingDetector) -> Iterator[Vision]:
    with ThreadPoolExecutor(1) as pool:
        yield Vision(detector, PaintedEmbedder(), pool)  # type: ignore[arg-type]


@pytest.fixture
async def client(db: Database, vision: Vision, aiohttp_client: ClientMaker, picture: bytes) -> TestClient:
    behind = services(db, vision=vision)  # type: ignore[arg-type]
    await behind.sightings.upsert(
        [arrival("named", subject="alice", thumbnail=picture), arrival("stranger", first_s=60, thumbnail=picture)], now_s=NOW_S
    )
    return await aiohttp_client(build_app(behind))


async def shown(client: TestClient, who: dict[str, str], outcome: str) -> Image:
    (sighting,) = (await (await client.get(f"/v1/sightings?outcome={outcome}", headers=who)).json())["sightings"]
    response = await client.get(sighting["thumbnail"], headers=who)
    assert (response.status, response.content_type) == (200, "image/jpeg")
    return decode_jpeg(await response.read())


def told(image: Image, columns: slice) -> bool:
    """Whether a face can be told: its texture is there."""
    return bool(np.abs(np.diff(image[ROWS, columns, 0].astype(int), axis=1)).mean() > 4)


async def viewer(db: Database) -> dict[str, str]:
    return {"Authorization": f"Bearer {(await make_key(db, 'viewer')).text}"}


async def test_a_viewer_sees_the_named_subject_and_nobody_else(db: Database, client: TestClient, picture: bytes) -> None:
    plain = await shown(client, ADMIN, "subject")
    assert np.array_equal(plain, decode_jpeg(picture))
    blurred = await shown(client, await viewer(db), "subject")
    assert [told(plain, OWN), told(plain, BYSTANDER)] == [True, True]
    assert [told(blurred, OWN), told(blurred, BYSTANDER)] == [True, False]


async def test_a_stranger_is_a_bystander_too(db: Database, client: TestClient) -> None:
    blurred = await shown(client, await viewer(db), "stranger")
    assert [told(blurred, OWN), told(blurred, BYSTANDER)] == [False, False]


async def test_where_faces_cannot_be_looked_for_the_whole_picture_is_blurred(
    db: Database, client: TestClient, detector: CountingDetector
) -> None:
    detector.broken = True
    blurred = await shown(client, await viewer(db), "subject")
    assert [told(blurred, OWN), told(blurred, BYSTANDER)] == [False, False]


async def test_what_was_blurred_is_not_looked_at_again(db: Database, client: TestClient, detector: CountingDetector) -> None:
    who = await viewer(db)
    first = await shown(client, who, "subject")
    calls = detector.calls
    assert np.array_equal(await shown(client, who, "subject"), first)
    assert detector.calls == calls > 0


async def test_a_damaged_picture_is_not_shown_for_nobody_can_be_blurred_in_it(db: Database, client: TestClient) -> None:
    (sighting,) = (await (await client.get("/v1/sightings?outcome=subject", headers=ADMIN)).json())["sightings"]
    await db.execute("update sighting set thumbnail = $1 where outcome = 'subject'", sealed(db, sighting["sighting_id"]))
    response = await client.get(sighting["thumbnail"], headers=await viewer(db))
    assert response.status == 404
    assert (await response.json())["error"]["message"] == "the picture is damaged: nobody can be blurred in it, so it is not shown"


def sealed(db: Database, sighting_id: str) -> bytes:
    return db.vault.seal(b"\xff\xd8 no picture", label=label_of("sighting thumbnail", sighting_id))
