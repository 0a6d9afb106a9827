"""A POST with an Idempotency-Key is done once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.idempotency import SEALED
from api.services import ApiServices
from core.adapters.postgres import open_database
from core.ports import Database
from core.sealing import reseal
from core.vault import Vault
from tests.builders.api import ADMIN, PaperEnroller, services

ADA = {"name": "Ada Lovelace"}


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db)


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


async def post(client: TestClient, body: dict[str, Any], name: str, path: str = "/v1/subjects") -> tuple[int, dict[str, Any], bool]:
    response = await client.post(path, json=body, headers=key(name))
    return response.status, await response.json(), response.headers.get("Idempotent-Replayed") == "true"


async def test_the_same_request_is_done_once_and_answered_alike(client: TestClient, behind: ApiServices) -> None:
    first, again = await post(client, ADA, "k1"), await post(client, ADA, "k1")
    assert (first[0], first[2], again[2]) == (201, False, True)
    assert again[:2] == first[:2]
    assert (await behind.gallery.counts()).subjects == 1


async def test_an_error_of_the_client_is_answered_alike_too(client: TestClient) -> None:
    await post(client, ADA, "k1")
    assert [(status, replayed) for status, _, replayed in (await post(client, ADA, "k2"), await post(client, ADA, "k2"))] == [
        (409, False),
        (409, True),
    ]


async def test_another_content_under_the_same_key_is_refused(client: TestClient) -> None:
    await post(client, ADA, "k1")
    status, body, _ = await post(client, {"name": "Grace"}, "k1")
    assert (status, body["error"]["code"]) == (422, "unprocessable")
    assert body["error"]["message"] == "Idempotency-Key: this key was used for another request; take a new one for each"


async def test_a_body_that_does_not_fit_uses_up_no_key(client: TestClient) -> None:
    assert (await post(client, {"nmae": "Ada"}, "k1"))[0] == 400
    assert (await post(client, ADA, "k1"))[0] == 201


async def test_a_form_is_the_same_whatever_its_boundary(client: TestClient, behind: ApiServices) -> None:
    subject = (await post(client, ADA, "k1"))[1]["subject_id"]

    def form() -> FormData:
        data = FormData()
        data.add_field("photo", b"paper 1", filename="1.jpg", content_type="image/jpeg")
        return data

    answers = [await client.post(f"/v1/subjects/{subject}/references", data=form(), headers=key("k2")) for _ in range(2)]
    bodies = [await one.json() for one in answers]
    assert bodies[0]["enrolled"] == 1
    assert bodies[1] == bodies[0]


async def test_while_the_first_is_being_answered_the_second_waits_its_turn(
    behind: ApiServices, db: Database, aiohttp_client: Callable[..., Awaitable[TestClient]]
) -> None:
    inside, go = asyncio.Event(), asyncio.Event()

    @dataclass
    class Slow(PaperEnroller):
        async def enroll_all(self, photos: Any, report: Any, options: Any) -> None:
            inside.set()
            await go.wait()
            await PaperEnroller.enroll_all(self, photos, report, options)

    client = await aiohttp_client(build_app(replace(behind, enroller=Slow(behind.gallery))), headers=ADMIN)
    subject = (await post(client, ADA, "k1"))[1]["subject_id"]

    async def enroll() -> int:
        data = FormData()
        data.add_field("photo", b"paper 1", filename="1.jpg", content_type="image/jpeg")
        return (await client.post(f"/v1/subjects/{subject}/references", data=data, headers=key("k2"))).status

    first = asyncio.create_task(enroll())
    await inside.wait()
    assert await enroll() == 409
    go.set()
    assert await first in (200, 201)
    assert await enroll() in (200, 201)
    await db.execute("update idempotent_request set status = null, body = null where key = 'k2'")
    assert await enroll() == 409
    await db.execute("update idempotent_request set began_at = now() - interval '5 minutes' where key = 'k2'")  # its process died
    assert await enroll() in (200, 201)


async def test_keys_of_different_clients_never_meet_and_answers_are_sealed(client: TestClient, db: Database) -> None:
    await post(client, ADA, "k1")
    (row,) = await db.fetch("select actor, body from idempotent_request")
    assert row["actor"] == "settings"
    assert b"Ada" not in row["body"]
    await db.execute("update idempotent_request set actor = 'key:somebody else'")
    assert (await post(client, ADA, "k1"))[0] == 409  # done again: the name is taken


async def test_an_answer_is_replayed_after_its_key_was_replaced(
    fresh_postgres_url: str, tmp_path: Path, aiohttp_client: Callable[..., Awaitable[TestClient]]
) -> None:
    old, new, migrations = bytes(range(32)), bytes(range(32, 64)), files("deploy") / "migrations"
    answers = []
    for ring in ([old], [new, old], [new]):
        async with open_database(fresh_postgres_url, data_dir=tmp_path, migrations=migrations, vault=Vault(ring)) as db:
            if len(ring) == 2:
                assert sum([some async for some in reseal(db, *SEALED)]) == 1
                continue
            client = await aiohttp_client(build_app(services(db)), headers=ADMIN)
            answers.append(await post(client, ADA, "k1"))
            await client.close()
    assert [(status, replayed) for status, _, replayed in answers] == [(201, False), (201, True)]


@pytest.mark.parametrize("bad", ["a b", "x" * 201, "\u00e9"])
async def test_a_key_that_is_none_is_told(client: TestClient, bad: str) -> None:
    status, body, _ = await post(client, ADA, bad)
    assert (status, body["error"]["message"]) == (400, "Idempotency-Key: 1 to 200 visible ASCII characters; a UUID is a good one")
