"""Hostile requests: each is answered with the envelope and a 4xx, none with a 500, and the server goes on."""

import asyncio
import random
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import ENROLMENTS_AT_ONCE, WAITING_ENROLMENTS, WAITING_SEARCHES, build_app
from api.services import ApiServices
from api.uploads import MAX_FIELD_BYTES, MAX_JSON_BYTES, MAX_PARTS
from core.ports import Database
from core.settings import ApiSettings
from tests.builders.api import ADMIN, PaperVision, picture, services
from tests.builders.sightings import NOW_S, arrival

MAX_UPLOAD = 64 << 10
SQLISH = ["' or 1=1 --", '"; drop table subject; --', "%", "_", "\\", "$1", "{}", "../../etc/passwd", "\u202e", "a" * 300]


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db, api=ApiSettings(max_upload_bytes=MAX_UPLOAD))


@pytest.fixture
async def client(behind: ApiServices, aiohttp_client: Callable[..., Awaitable[TestClient]]) -> AsyncIterator[TestClient]:
    return await aiohttp_client(build_app(behind), headers=ADMIN)


async def refused(response: ClientResponse, *statuses: int) -> str:
    """Check that a request was refused in the envelope, and return the message."""
    assert response.status in (statuses or range(400, 500)), await response.text()
    body = await response.json()
    message = body["error"]["message"]
    assert message
    assert "\n" not in message
    assert len(message) < 400
    return str(message)


PATHS_WITH_IDS = (
    ("GET", "/v1/subjects/{}"),
    ("PATCH", "/v1/subjects/{}"),
    ("DELETE", "/v1/subjects/{}"),
    ("GET", "/v1/subjects/{}/references"),
    ("DELETE", "/v1/references/{}"),
    ("GET", "/v1/sightings/{}"),
    ("GET", "/v1/sightings/{}/thumbnail.jpg"),
)


@pytest.mark.parametrize(("method", "path"), PATHS_WITH_IDS)
async def test_ids_that_are_no_uuids(client: TestClient, method: str, path: str) -> None:
    body = {"name": "x"} if method == "PATCH" else None
    for text in (*SQLISH, "1", "null", "0" * 33, "%00", "😀"):
        await refused(await client.request(method, path.replace("{}", text), json=body), 404, 405)


QUERIES_OF_NO_LIST = (
    *({"limit": text} for text in ("0", "501", "1e9", "", "-1", "٣x", "1; drop table sighting")),
    *({"cursor": text} for text in ("x", "AAAA", "é", "A" * 5000, "\x00")),
    {"nonsense": "1"},
    {"Limit": "1"},
)


@pytest.mark.parametrize("path", ["/v1/sightings", "/v1/episodes", "/v1/subjects"])
async def test_queries_that_fit_no_list(client: TestClient, path: str) -> None:
    for query in QUERIES_OF_NO_LIST:
        await refused(await client.get(path, params=query), 400, 422)


FILTERS_OF_NO_SIGHTING = (
    *({"since": text} for text in ("yesterday", "2026-01-01T00:00:00", "-1", "0001-01-01T00:00:00Z")),
    *({"until": text} for text in ("99999999999999999999", "nan", "inf", "9999-12-31T23:59:59Z")),
    *({"camera": text} for text in ("", "a\x00b")),
    *({"subject": text} for text in ("\x00", "s" * 201)),
)


@pytest.mark.parametrize("path", ["/v1/sightings", "/v1/episodes"])
async def test_filters_that_no_sighting_could_have(client: TestClient, path: str) -> None:
    for query in FILTERS_OF_NO_SIGHTING:
        await refused(await client.get(path, params=query), 400, 422)


async def test_a_parameter_given_twice_is_refused(client: TestClient) -> None:
    assert "twice" in await refused(await client.get("/v1/sightings?camera=a&camera=b"), 400)


async def test_sql_in_a_filter_is_only_a_name_that_nobody_has(client: TestClient, behind: ApiServices) -> None:
    await behind.sightings.upsert([arrival("a")], now_s=NOW_S)
    for name, text in product(("camera", "subject"), SQLISH[:-1]):
        response = await client.get("/v1/sightings", params={name: text})
        assert (response.status, (await response.json())["sightings"]) == (200, [])
    assert len((await (await client.get("/v1/sightings")).json())["sightings"]) == 1


# fmt: off
BODIES_OF_NO_SUBJECT = (
    b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b'{"name":""}', b'{"name":null}', b'{"name":["x"]}', b'{"name":"   "}',
    b'{"name":"a\\u0000b"}', b'{"name":"\\ud800"}', b'{"name":"' + b"n" * 201 + b'"}', b'{"name":"x","admin":true}',
    b'{"name":"x","valid_until":"2026-01-01"}', b'{"name":"x","valid_until":1e400}', b'{"name":"x","attributes":[]}',
    b'{"name":"x","consent":{"purpose":"p","other":1}}', b'{"name":"x","collection":"../x"}', b"[" * 100_000,
    b'{"name":"x","attributes":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
)
# fmt: on


async def test_bodies_that_make_no_subject(client: TestClient) -> None:
    for body in BODIES_OF_NO_SUBJECT:
        await refused(await client.post("/v1/subjects", data=body, headers={"Content-Type": "application/json"}), 400, 422)
    assert (await (await client.get("/v1/subjects")).json())["subjects"] == []


async def test_attributes_that_the_database_could_not_keep_are_refused_or_kept(client: TestClient) -> None:
    for number, value in enumerate(('"\\u0000"', '{"\\u0000":1}', '["\\u0000"]', "NaN", '"\\ud83d"', "1e999", "-0")):
        body = f'{{"name":"x{number}","attributes":{{"a":{value}}}}}'
        response = await client.post("/v1/subjects", data=body.encode(), headers={"Content-Type": "application/json"})
        assert response.status in (201, 400, 422), await response.text()
    assert (await client.get("/v1/subjects")).status == 200


async def test_a_body_of_another_type_is_refused(client: TestClient) -> None:
    await refused(await client.post("/v1/subjects", data=b"{}", headers={"Content-Type": "text/plain"}), 415)
    await refused(await client.post("/v1/subjects", data=b"name=x", headers={"Content-Type": "application/x-www-form-urlencoded"}), 415)
    await refused(await client.post("/v1/search", json={"photo": "x"}), 415)
    await refused(await client.post("/v1/search", data=b"\xff\xd8\xff", headers={"Content-Type": "image/jpeg"}), 415)


async def test_bodies_that_are_too_large_are_refused(client: TestClient) -> None:
    large = b'{"name":"' + b"x" * MAX_JSON_BYTES + b'"}'
    await refused(await client.post("/v1/subjects", data=large, headers={"Content-Type": "application/json"}), 413)
    form = FormData()
    form.add_field("photo", b"x" * (MAX_UPLOAD + 1), filename="a.jpg")
    await refused(await client.post("/v1/search", data=form), 413)


async def test_an_upload_that_does_not_say_its_length_is_cut_off_too(client: TestClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
        for _ in range(200):
            yield b"x" * 1024
        yield b"\r\n--b--\r\n"

    await refused(await client.post("/v1/search", data=body(), headers={"Content-Type": "multipart/form-data; boundary=b"}), 413)


async def test_a_compressed_bomb_is_cut_off_where_it_grows(client: TestClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
    bomb = zlib.compress(head + b"\x00" * (64 << 20))
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "deflate"}
    await refused(await client.post("/v1/search", data=bomb, headers=headers), 400, 413)


def part(headers: str, body: bytes = b"x") -> bytes:
    return b"--b\r\n" + headers.encode() + b"\r\n\r\n" + body + b"\r\n"


DISPOSITION = 'Content-Disposition: form-data; name="photo"; filename="a.jpg"'


BAD_TYPES = ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 100)
END = b"--b--\r\n"
PHOTO = part(DISPOSITION, picture())
DAMAGED = (
    b"",
    b"\x00" * 1000,
    END,
    b"--b\r\n",
    b"--b\r\n\r\n",
    part("no header at all") + END,
    part("Content-Disposition: attachment") + END,
    part("Content-Disposition: form-data") + END,
    part('Content-Disposition: form-data; name="other"') + END,
    part(DISPOSITION + "\r\nContent-Transfer-Encoding: base64", b"!!!") + END,
    part(DISPOSITION + "\r\nContent-Transfer-Encoding: nonsense") + END,
    part(DISPOSITION + "\r\nContent-Length: -5") + END,
    part(DISPOSITION + "\r\nContent-Length: 99999") + END,
    part(DISPOSITION + "\r\nContent-Length: x") + END,
    part(DISPOSITION + "\r\nContent-Type: multipart/mixed; boundary=c", b"--c--") + END,
    part("X-Long: " + "y" * 20000) + END,
    PHOTO + part('Content-Disposition: form-data; name="k"', b"\xff") + END,
    PHOTO + 2 * part('Content-Disposition: form-data; name="k"', b"1") + END,
    PHOTO + part('Content-Disposition: form-data; name="zz"') + END,
)


async def test_damaged_multipart(client: TestClient) -> None:
    for content_type in BAD_TYPES:
        await refused(await client.post("/v1/search", data=b"x", headers={"Content-Type": content_type}))
    for body in DAMAGED:
        await refused(await client.post("/v1/search", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}))


async def test_too_many_parts_and_too_long_fields(client: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    many = b"".join(part(f'Content-Disposition: form-data; name="f{n}"') for n in range(MAX_PARTS + 1)) + b"--b--\r\n"
    assert f"more than {MAX_PARTS} parts" in await refused(await client.post("/v1/search", data=many, headers=headers), 413)
    long = part('Content-Disposition: form-data; name="k"', b"1" * (MAX_FIELD_BYTES + 1)) + b"--b--\r\n"
    await refused(await client.post("/v1/search", data=long, headers=headers), 413)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
async def test_multipart_with_random_damage_never_breaks_the_server(client: TestClient, seed: int) -> None:
    rng = random.Random(seed)
    good = bytearray(part(DISPOSITION, b"garbage") + part('Content-Disposition: form-data; name="k"', b"5") + b"--b--\r\n")
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(good))
        good[place : place + rng.randint(0, 5)] = rng.randbytes(rng.randint(0, 5))
    response = await client.post("/v1/search", data=bytes(good), headers={"Content-Type": "multipart/form-data; boundary=b"})
    await refused(response)


async def test_a_file_name_is_a_word_in_a_report_and_nothing_else(client: TestClient) -> None:
    name = "../../../etc/pass%E2%80%AEwd" + "n" * 500
    body = part(f"Content-Disposition: form-data; name=\"photo\"; filename*=utf-8''{name}", b"garbage") + END
    message = await refused(await client.post("/v1/search", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}), 422)
    assert "etc" not in message
    assert message.isprintable()


async def test_unknown_paths_and_methods(client: TestClient) -> None:
    await refused(await client.get("/v1/../etc/passwd"), 404)
    await refused(await client.get("/console/../app.py"), 404)
    response = await client.post("/v1/sightings")
    await refused(response, 405)
    assert "GET" in response.headers["Allow"]
    await refused(await client.request("PUT", "/v1/subjects"), 405)


class StuckVision(PaperVision):
    """Looks at a photo for as long as the test wants."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def call(self, work: Callable[..., Any], *args: Any) -> Any:
        await self.go.wait()
        return await super().call(work, *args)


async def test_more_photos_than_will_be_done_soon_are_refused_at_once(
    db: Database, aiohttp_client: Callable[..., Awaitable[TestClient]]
) -> None:
    vision = StuckVision()
    client = await aiohttp_client(build_app(services(db, vision=vision)), headers=ADMIN)

    async def search() -> ClientResponse:
        form = FormData()
        form.add_field("photo", picture(), filename="a")
        return await client.post("/v1/search", data=form)

    answers = asyncio.as_completed([search() for _ in range(WAITING_SEARCHES + 3)])
    for _ in range(3):  # nothing else can have ended yet
        response = await next(answers)
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
    vision.go.set()
    assert [(await one).status for one in answers] == [200] * WAITING_SEARCHES
    assert (await search()).status == 200


async def test_uploads_wait_their_turn_and_only_so_many(behind: ApiServices, aiohttp_client: Callable[..., Awaitable[TestClient]]) -> None:
    go = asyncio.Event()
    inside: list[int] = []

    class StuckEnroller:
        async def enroll_all(self, photos: object, report: object, options: object) -> None:
            inside.append(1)
            assert len(inside) <= ENROLMENTS_AT_ONCE
            await go.wait()
            inside.pop()

    client = await aiohttp_client(build_app(replace(behind, enroller=StuckEnroller())), headers=ADMIN)
    subject = await (await client.post("/v1/subjects", json={"name": "Ada"})).json()

    async def enroll() -> int:
        form = FormData()
        form.add_field("photo", b"paper", filename="a")
        return (await client.post(f"/v1/subjects/{subject['subject_id']}/references", data=form)).status

    answers = asyncio.as_completed([enroll() for _ in range(WAITING_ENROLMENTS + 2)])
    assert [await next(answers) for _ in range(2)] == [503, 503]
    go.set()
    assert [await one for one in answers] == [200] * WAITING_ENROLMENTS


async def test_uuids_in_other_spellings_mean_the_same_subject(client: TestClient) -> None:
    subject = await (await client.post("/v1/subjects", json={"name": "Ada"})).json()
    key = uuid.UUID(subject["subject_id"])
    for spelling in (key.hex, str(key).upper()):
        assert (await client.get(f"/v1/subjects/{spelling}")).status == 200
