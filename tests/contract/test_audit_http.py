"""Every request that touches people leaves an entry, before its answer leaves."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.services import ApiServices
from core.audit.store import AuditFilter, AuditStore
from core.ports import Database
from core.settings import AuditSettings
from tests.builders.access import log_in, make_key
from tests.builders.api import ADMIN, services
from tests.builders.live import reading

ClientMaker = Callable[..., Awaitable[TestClient]]


@pytest.fixture
def behind(db: Database) -> ApiServices:
    return services(db)


async def kept(db: Database, **wanted: Any) -> list[dict[str, Any]]:
    """Return what is kept, oldest first."""
    entries, _ = await AuditStore(db).query(AuditFilter(**wanted), limit=500)
    return [{**vars_of(entry.draft), "seq": entry.seq} for entry in reversed(entries)]


def vars_of(draft: Any) -> dict[str, Any]:
    return {name: getattr(draft, name) for name in draft.__dataclass_fields__} | {"details": json.loads(draft.details)}


async def test_who_did_what_to_whom_and_why(db: Database, client: TestClient) -> None:
    nobody = str(uuid.uuid4())
    await client.get("/v1/sightings", headers={"X-Purpose": "lost child", "X-Request-ID": "mine-1"})
    assert (await client.get(f"/v1/subjects/{nobody}")).status == 404
    assert (await client.get("/v1/sightings?limit=x")).status == 400
    await client.get("/healthz")
    first, second, third = await kept(db)
    assert first | {"client": ""} == {
        "actor": "settings",
        "actor_name": "administrator",
        "role": "admin",
        "action": "sightings.list",
        "targets": (),
        "purpose": "lost child",
        "outcome": 200,
        "request_id": "mine-1",
        "client": "",
        "details": {},
        "seq": 1,
    }
    assert (second["action"], second["targets"], second["outcome"]) == ("subject.read", (nobody,), 404)
    assert (third["action"], third["outcome"]) == ("sightings.list", 400)
    assert (await AuditStore(db).verify()).broken is None


async def test_what_a_subject_goes_through_can_be_read_back(db: Database, client: TestClient) -> None:
    made = await (await client.post("/v1/subjects", json={"name": "Ada"})).json()
    await client.get(f"/v1/subjects/{made['subject_id'].upper()}")
    page = await (await client.get("/v1/audit", params={"target": made["subject_id"], "limit": 1})).json()
    assert [one["action"] for one in page["entries"]] == ["subject.read"]
    rest = await (await client.get("/v1/audit", params={"target": made["subject_id"], "cursor": page["next_cursor"]})).json()
    assert ([one["action"] for one in rest["entries"]], rest["next_cursor"]) == (["subject.create"], None)
    assert "Ada" not in json.dumps(rest)
    assert (await kept(db))[-1]["action"] == "audit.list"


async def test_without_an_entry_there_is_no_answer(db: Database, client: TestClient, behind: ApiServices) -> None:
    await client.post("/v1/subjects", json={"name": "Ada"})
    await db.execute("alter table audit add constraint full_up check (seq < 2)")
    try:
        withheld = await client.get("/v1/subjects")
        assert (withheld.status, (await withheld.json())["error"]["code"]) == (503, "unavailable")
        assert "Ada" not in await withheld.text()
        assert (await client.get("/v1/events")).status == 503
        assert (await client.get("/v1/gallery")).status == 200  # touches nobody
        assert (await client.get(f"/v1/subjects/{uuid.uuid4()}")).status == 404
    finally:
        await db.execute("alter table audit drop constraint full_up")
    assert (await client.get("/v1/subjects")).status == 200
    assert "sightline_audit_failures_total 4.0" in behind.metrics.render().decode()


async def test_a_stream_is_kept_when_it_begins_and_when_it_ends(db: Database, client: TestClient, behind: ApiServices) -> None:
    async with reading(behind.events), client.get("/v1/events"):
        assert [(one["action"], one["details"]) for one in await kept(db)] == [("events.follow", {"stream": "begun"})]
        behind.events.close()
    async with asyncio.timeout(5):
        while len(await kept(db)) < 2:  # noqa: ASYNC110 - the server ends it when it likes
            await asyncio.sleep(0.01)
    assert (await kept(db))[-1]["details"] == {"stream": "ended"}


async def test_who_is_nobody_fills_no_disk(db: Database, client: TestClient) -> None:
    for _ in range(20):
        assert (await client.get("/v1/subjects", headers={"Authorization": "Bearer wrong"})).status == 401
    (entry,) = await kept(db)
    assert (entry["actor"], entry["action"], entry["outcome"]) == ("anonymous", "subjects.list", 401)
    await client.close()  # what was counted is kept before the process ends
    await client.server.close()
    assert [one["details"] for one in await kept(db)] == [{}, {"repeated": 19}]


async def test_each_login_and_each_upload_is_kept_however_many_come_from_one_address(db: Database, client: TestClient) -> None:
    keys = [await make_key(db, "viewer") for _ in range(2)]
    for key in keys:
        await log_in(client, key=key.text)
    logins = await kept(db, action="session.begin")
    assert [(one["actor"], one["outcome"], one["details"]) for one in logins] == [(f"key:{key.key.key_id}", 201, {}) for key in keys]
    targets = [await (await client.post("/v1/uploads", json={})).json() for _ in range(2)]
    for target in targets:
        assert (await client.put(target["url"], data=b"x", headers=target["headers"])).status == 200
    received = await kept(db, action="upload.receive")
    assert [one["targets"] for one in received] == [(target["upload_id"],) for target in targets]


async def test_a_purpose_can_be_required(db: Database, aiohttp_client: ClientMaker) -> None:
    behind = services(db)
    strict = replace(behind, settings=behind.settings.model_copy(update={"audit": AuditSettings(purpose_required=True)}))
    client = await aiohttp_client(build_app(strict), headers=ADMIN)
    refused = await client.get("/v1/subjects", headers={"X-Purpose": "  "})
    assert refused.status == 400
    assert (await refused.json())["error"]["message"] == (
        "X-Purpose: say why in the header X-Purpose: this deployment requires a purpose (audit.purpose_required)"
    )
    assert (await client.get("/v1/subjects", headers={"X-Purpose": "access review"})).status == 200
    assert [(one["outcome"], one["purpose"]) for one in await kept(db)] == [(400, ""), (200, "access review")]


async def test_whatever_comes_as_purpose_is_kept_on_one_line(db: Database, client: TestClient) -> None:
    await client.get("/v1/subjects", headers={"X-Purpose": "caf\xe9 " + "x" * 300})
    assert (await kept(db))[0]["purpose"][:6].strip() != ""
    assert len((await kept(db))[0]["purpose"]) <= 200
