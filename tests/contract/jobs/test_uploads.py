"""Uploads: sent with a token alone, within limits."""

import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.errors import UnauthorizedError
from api.services import ApiServices
from api.storage.store import check_token
from core.settings import StorageSettings
from tests.builders.api import ADMIN
from tests.builders.http import ok, reason_of

ClientMaker = Callable[..., Awaitable[TestClient]]


async def test_an_upload_is_sent_with_its_token_alone(client: TestClient, behind: ApiServices, aiohttp_client: ClientMaker) -> None:
    digest = hashlib.sha256(b"people").hexdigest()
    target = await ok(await client.post("/v1/uploads", json={"name": "people.zip", "sha256": digest}), 201)
    stranger = await aiohttp_client(build_app(behind))
    assert (await ok(await client.get(f"/v1/uploads/{target['upload_id']}")))["state"] == "waiting"
    stored = await ok(await stranger.put(target["url"], data=b"people", headers=target["headers"]))
    assert (stored["state"], stored["size_bytes"], stored["sha256"]) == ("stored", 6, digest)
    message = await reason_of(await stranger.put(target["url"], data=b"people", headers=target["headers"]), 409)
    assert message == f"upload {target['upload_id']}: is there already; ask for another one"


async def test_a_token_opens_no_other_upload_and_none_is_message(client: TestClient) -> None:
    one = await ok(await client.post("/v1/uploads", json={}), 201)
    two = await ok(await client.post("/v1/uploads", json={}), 201)
    octets = {"Content-Type": "application/octet-stream"}
    assert (
        await reason_of(await client.put(two["url"], data=b"x", headers=one["headers"]), 401)
        == "X-Upload-Token: is not the one of this upload"
    )
    assert await reason_of(await client.put(two["url"], data=b"x", headers=octets), 401) == "X-Upload-Token: is not the one of this upload"


async def test_a_token_expires(client: TestClient, behind: ApiServices) -> None:
    target = await ok(await client.post("/v1/uploads", json={}), 201)
    key, token = uuid.UUID(target["upload_id"]), target["headers"]["X-Upload-Token"]
    check_token(behind.db.vault, key, token)
    with pytest.raises(UnauthorizedError, match=r"^X-Upload-Token: has expired; ask for another upload$"):
        check_token(behind.db.vault, key, token, now_s=time.time() + 3601)


async def test_what_is_too_large_empty_or_another_file_is_not_stored(behind: ApiServices, aiohttp_client: ClientMaker) -> None:
    settings = behind.settings.model_copy(update={"storage": StorageSettings(url="memory:", max_upload_bytes=1024)})
    client = await aiohttp_client(build_app(replace(behind, settings=settings)), headers=ADMIN)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async def target(**body: str) -> Any:
        return await ok(await client.post("/v1/uploads", json=body), 201)

    large = await target()
    message = await reason_of(await client.put(large["url"], data=endless(), headers=large["headers"]), 413)
    assert message == "the upload has more than the 1024 bytes that are taken (storage.max_upload_bytes)"
    empty = await target()
    assert await reason_of(await client.put(empty["url"], data=b"", headers=empty["headers"]), 422) == "the upload is empty"
    other = await target(sha256="0" * 64)
    message = await reason_of(await client.put(other["url"], data=b"x", headers=other["headers"]), 422)
    assert message == "the upload's content is not that of the announced sha256; ask for another one and send it again"
    assert [one async for one in behind.objects.under("uploads")] == []
