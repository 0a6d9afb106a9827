"""Keys in the bodies of DeepStack's clients: the same rights and limits as in a header."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from api.app import build_app
from core.ports import Database
from core.settings import ApiSettings
from tests.builders.access import bearer, make_key
from tests.builders.api import services

ClientMaker = Callable[..., Awaitable[TestClient]]
FACE = "/v1/vision/face"


@pytest.fixture
async def client(db: Database, aiohttp_client: ClientMaker) -> TestClient:
    return await aiohttp_client(build_app(services(db, api=ApiSettings(anonymous_per_minute=60, max_upload_bytes=4096))))


def form(key: str, photo: bytes = b"no photo") -> FormData:
    data = FormData()
    data.add_field("image", photo, filename="a.jpg")
    data.add_field("api_key", key)
    return data


async def test_a_key_in_the_form_has_its_own_rights_and_collection(client: TestClient, db: Database) -> None:
    enroller, viewer = await make_key(db, "enroller", collections=("staff",)), await make_key(db, "viewer")
    assert (await client.post(f"{FACE}/recognize", data=form(viewer.text))).status == 403
    assert (await client.post(f"{FACE}/list", data={"api_key": enroller.text})).status == 200
    assert (await client.post(f"{FACE}/delete", data={"api_key": enroller.text, "userid": "ann"})).status == 403
    both = await client.post(f"{FACE}/list", data={"api_key": enroller.text}, headers=bearer("another"))
    assert both.status == 401  # the header says who asks, where there is one
    (kept,) = await db.fetch("select actor_name from audit where outcome = 200")
    assert kept["actor_name"] == "test enroller"


async def test_forms_that_are_none_say_so_and_other_paths_read_no_key(client: TestClient, db: Database) -> None:
    admin = await make_key(db)
    twice = await client.post(f"{FACE}/delete", data=[("api_key", admin.text), ("userid", "a"), ("userid", "b")])
    assert (twice.status, (await twice.json())["error"]) == (400, "a form field is given twice")
    nobody = await client.post(f"{FACE}/delete", data={"api_key": admin.text})
    assert nobody.status in (400, 422)
    assert (await client.post("/v1/enroll", data=form(admin.text))).status == 401
    assert (await client.post("/v1/enroll", data={"name": "Ann"}, headers=bearer(admin))).status == 415


async def test_bodies_of_strangers_are_read_only_so_often(client: TestClient, db: Database) -> None:
    admin = await make_key(db)
    assert (await client.post(f"{FACE}/list", headers=bearer(admin))).status == 200
    answers = [await client.post(f"{FACE}/recognize", data=form("a-key-of-nobody")) for _ in range(5)]
    answers += [await client.post(f"{FACE}/recognize", data=form("a-key-of-nobody", b"x" * 5000)) for _ in range(8)]
    assert [one.status for one in answers[:5]] == [401] * 5
    assert {one.status for one in answers[5:9]} == {413}
    assert answers[-1].status == 429
    assert (await client.post(f"{FACE}/list", data={"api_key": admin.text})).status == 429
    assert (await client.post(f"{FACE}/list", headers=bearer(admin))).status == 200
