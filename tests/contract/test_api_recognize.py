"""Still-image recognition over HTTP: what is on a photo, and what is remembered of it."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.recognize.cache import LookCache
from api.services import ApiServices
from core.ports import Database
from core.types import Image
from detect.tracker import Look
from recognize.rules.rules import Rules
from tests.builders.api import ADMIN, MODEL, PaperVision, Platform, picture, services
from tests.builders.gallery import new_reference

ClientMaker = Callable[..., Awaitable[TestClient]]
ADA = (1, 0, 0, 0)


class CountingVision(PaperVision):
    """Counts the photos it looks at."""

    looks = 0

    def look_photo(self, image: Image) -> Look:
        self.looks += 1
        return super().look_photo(image)


@pytest.fixture
def vision() -> CountingVision:
    return CountingVision()


@pytest.fixture
def behind(db: Database, platform: Platform, vision: CountingVision) -> ApiServices:
    return services(db, platform=platform, vision=vision)


@asynccontextmanager
async def following(cache: LookCache, db: Database) -> AsyncIterator[None]:
    """Let a cache hear of erasures inside the block."""
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        task = group.create_task(cache.follow(db))
        while not cache.following:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        yield
        task.cancel()


def photo(content: bytes, **fields: str) -> FormData:
    form = FormData(fields)
    form.add_field("photo", content, filename="p.png", content_type="image/png")
    return form


async def ok(response: ClientResponse) -> Any:
    assert response.status == 200, await response.text()
    return await response.json()


async def enrol(behind: ApiServices, platform: Platform, name: str) -> str:
    vector = np.array(ADA, np.float32)
    added = await behind.gallery.add_reference(name, new_reference(1, model=MODEL, vector=vector), collection="default")
    platform.matcher.known[name] = vector
    platform.matcher.subjects[name] = added.subject_id
    platform.matcher.generation = added.generation or 0
    return added.subject_id


async def test_a_face_comes_with_its_place_quality_name_and_embedding(client: TestClient, behind: ApiServices, platform: Platform) -> None:
    await enrol(behind, platform, "Ada")
    body = await ok(await client.post("/v1/recognize", data=photo(picture(ADA), embeddings="true", k="1")))
    (face,) = body["faces"]
    assert (face["box"], len(face["landmarks"]), face["quality"]) == ([10, 10, 110, 130], 5, 0.8)
    assert (face["outcome"], [one["subject"] for one in face["candidates"]]) == ("subject", ["Ada"])
    assert np.frombuffer(base64.b64decode(face["embedding"]), "<f4").tolist() == list(ADA)
    assert (body["width_px"], body["height_px"], body["references"], body["cached"]) == (4, 1, 1, False)
    (face,) = (await ok(await client.post("/v1/recognize", data=photo(picture(ADA)))))["faces"]
    assert face["embedding"] is None


async def test_boxes_are_in_the_picture_as_people_see_it(client: TestClient) -> None:
    out = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # stored lying, to be turned by 90 degrees
    PIL.Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(out, "JPEG", exif=exif)
    body = await ok(await client.post("/v1/recognize", data=photo(out.getvalue())))
    assert (body["width_px"], body["height_px"], body["faces"]) == (20, 30, [])


async def test_a_photo_that_comes_again_is_not_looked_at_again_but_compared_anew(
    client: TestClient, behind: ApiServices, platform: Platform, vision: CountingVision, db: Database
) -> None:
    async with following(behind.looks, db):
        first = await ok(await client.post("/v1/recognize", data=photo(picture(ADA))))
        assert (first["cached"], first["faces"][0]["outcome"]) == (False, "stranger")
        await enrol(behind, platform, "Ada")
        second = await ok(await client.post("/v1/recognize", data=photo(picture(ADA))))
        assert (second["cached"], second["faces"][0]["outcome"], vision.looks) == (True, "subject", 1)
        best = await ok(await client.post("/v1/recognize", data=photo(picture(ADA), face="best")))
        assert (best["cached"], vision.looks) == (False, 2)
        assert behind.looks.bytes_used > 0


async def test_an_erasure_empties_the_memory(client: TestClient, behind: ApiServices, platform: Platform, db: Database) -> None:
    subject = await enrol(behind, platform, "Ada")
    async with following(behind.looks, db):
        await ok(await client.post("/v1/recognize", data=photo(picture(ADA))))
        assert len(behind.looks) == 1
        await behind.gallery.erase(subject)
        platform.matcher.known.clear()
        async with asyncio.timeout(5):
            while len(behind.looks):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        again = await ok(await client.post("/v1/recognize", data=photo(picture(ADA))))
        assert (again["cached"], again["faces"][0]["candidates"]) == (False, [])


async def test_nothing_is_remembered_while_erasures_are_not_heard_of(client: TestClient, behind: ApiServices) -> None:
    for _ in range(2):
        assert (await ok(await client.post("/v1/recognize", data=photo(picture(ADA)))))["cached"] is False
    assert len(behind.looks) == 0


async def test_memory_is_bounded(db: Database, behind: ApiServices, aiohttp_client: ClientMaker) -> None:
    looks = LookCache(most_bytes=80_000, metrics=behind.metrics)
    client = await aiohttp_client(build_app(replace(behind, looks=looks)), headers=ADMIN)
    async with following(looks, db):
        for shade in range(1, 9):
            await ok(await client.post("/v1/recognize", data=photo(picture((shade / 10, 0, 0, 0)))))
        assert 0 < looks.bytes_used <= 80_000
        assert 0 < len(looks) < 8
        assert (await ok(await client.post("/v1/recognize", data=photo(picture((0.8, 0, 0, 0))))))["cached"] is True
        assert (await ok(await client.post("/v1/recognize", data=photo(picture((0.1, 0, 0, 0))))))["cached"] is False
    text = await (await client.get("/metrics")).text()
    assert "sightline_api_cache_hits_total 1.0" in text


async def test_a_photo_of_somebody_who_has_opted_out_is_not_remembered(
    client: TestClient, platform: Platform, behind: ApiServices, db: Database
) -> None:
    platform.matcher.known["Ada"] = np.array(ADA, np.float32)
    platform.matcher.subjects["Ada"] = "00000000-0000-0000-0000-0000000000ad"
    async with following(behind.looks, db):
        (face,) = (await (await client.post("/v1/recognize", data=photo(picture(ADA)))).json())["faces"]
        assert (face["outcome"], len(behind.looks)) == ("subject", 1)
        behind.book.now = Rules(opted_out=frozenset({"00000000-0000-0000-0000-0000000000ad"}))
        (face,) = (await (await client.post("/v1/recognize", data=photo(picture(ADA)))).json())["faces"]
        assert (face["outcome"], face["candidates"], face["embedding"]) == ("opted_out", [], None)
        assert (len(behind.looks), behind.looks.bytes_used) == (0, 0)
