"""Cases over HTTP, with a real PostgreSQL: kept from retention, taken from by erasure, exported so that a change shows."""

import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from api.app import build_app
from api.cases.export import PURPOSE, verify
from core.errors import NotFoundError, UnreadableMediaError
from core.ports import Database
from core.sealing import count
from core.vault import Vault
from sightings.cases import SEALED, CaseStore
from sightings.forgetting import forget_subject
from sightings.scope import Scope
from sightings.store import SightingStore
from tests.builders.api import ADMIN, services
from tests.builders.sightings import ALICE, NOW_S, arrival

Client = TestClient[Any, Any]


@pytest.fixture
async def client(aiohttp_client: Callable[..., Awaitable[Client]], db: Database) -> Client:
    await db.execute("insert into subject (subject_id, collection, name) values ($1, 'default', 'Alice')", uuid.UUID(ALICE))
    return await aiohttp_client(build_app(services(db)), headers=ADMIN)


@pytest.fixture
async def ids(db: Database, client: Client) -> list[str]:
    """Return the ids of three sightings: Alice, a stranger at another camera, and somebody of another collection."""
    await db.execute("insert into collection (name) values ('staff')")
    arrivals = [arrival("a", subject="alice"), arrival("b", camera="hall"), arrival("c", collection="staff")]
    await SightingStore(db, episode_gap=timedelta(seconds=30)).record(arrivals, now_s=NOW_S)
    return [one.sighting.sighting_id for one in arrivals]


async def body(response: ClientResponse, status: int = 200) -> dict[str, Any]:
    found: dict[str, Any] = await response.json()
    assert response.status == status, found
    return found


async def case_of(client: Client, sightings: list[str], **fields: Any) -> str:
    """Open a case with sightings and return its path."""
    made = await body(await client.post("/v1/cases", json={"title": "Break-in"} | fields), 201)
    url = f"/v1/cases/{made['case_id']}"
    await body(await client.post(f"{url}/sightings", json={"sighting_ids": sightings, "note": "tries the handle"}))
    return url


async def test_a_case_from_its_opening_to_its_end(client: Client, ids: list[str]) -> None:
    response = await client.post("/v1/cases", json={"title": "Break-in", "owner": "guard-2"})
    made = await body(response, 201)
    url = response.headers["Location"]
    assert (made["collection"], made["state"], made["created_by"], made["legal_hold"], made["version"]) == (
        "default",
        "open",
        "administrator",
        False,
        1,
    )
    etag = response.headers["ETag"]
    assert (await body(await client.patch(url, json={"owner": None}, headers={"If-Match": etag})))["owner"] is None
    assert (await body(await client.patch(url, json={"state": "closed"}, headers={"If-Match": etag}), 412))["error"]["code"] == "stale"
    assert await body(await client.post(f"{url}/sightings", json={"sighting_ids": ids[:2]})) == {"added": 2, "sightings": 2}
    assert await body(await client.post(f"{url}/sightings", json={"sighting_ids": ids[:1], "note": "x"})) == {"added": 0, "sightings": 2}
    foreign = await body(await client.post(f"{url}/sightings", json={"sighting_ids": [ids[2]]}), 404)
    assert foreign["error"]["message"] == f"sighting {ids[2]}: collection default has none of this id; nothing was changed"
    first = await body(await client.get(f"{url}/sightings?limit=1"))
    rest = await body(await client.get(f"{url}/sightings", params={"limit": "1", "cursor": first["next_cursor"]}))
    assert {one["sighting_id"]: one["note"] for one in first["sightings"] + rest["sightings"]} == {ids[0]: "x", ids[1]: None}
    assert {one["sighting"]["subject"] for one in first["sightings"] + rest["sightings"]} == {"Alice", None}
    noted = await body(await client.post(f"{url}/notes", json={"text": "Same jacket"}), 201)
    assert [one["text"] for one in (await body(await client.get(f"{url}/notes")))["notes"]] == ["Same jacket"]
    assert await body(await client.delete(f"{url}/notes/{noted['note_id']}")) == {"removed": True}
    assert await body(await client.delete(f"{url}/sightings/{ids[1]}")) == {"removed": True}
    assert await body(await client.delete(f"{url}/sightings/{ids[1]}")) == {"removed": False}
    assert [one["sightings"] for one in (await body(await client.get("/v1/cases?state=open")))["cases"]] == [1]
    assert (await body(await client.get("/v1/cases?owner=nobody")))["cases"] == []
    await body(await client.get("/v1/cases?cursor=x"), 422)
    await body(await client.delete(url))
    await body(await client.get(url), 404)


async def test_a_legal_hold_keeps_sightings_from_retention(client: Client, db: Database, ids: list[str]) -> None:
    url = await case_of(client, [ids[0]], legal_hold=True)
    store = SightingStore(db, episode_gap=timedelta(seconds=30))
    assert await store.delete_stored_before(NOW_S + 100, limit=10) == 2
    assert await store.thumbnail(ids[0])
    for method, path in (("DELETE", url), ("DELETE", f"{url}/sightings/{ids[0]}")):
        refused = await body(await client.request(method, path), 409)
        assert "is under a legal hold; lift it to" in refused["error"]["message"]
    await body(await client.patch(url, json={"legal_hold": False}))
    assert await store.delete_stored_before(NOW_S + 100, limit=10) == 1
    (left,) = (await body(await client.get(f"{url}/sightings")))["sightings"]
    assert (left["sighting"], left["note"], left["camera"]) == (None, None, "door")  # when and where, no more


async def test_erasure_takes_a_person_out_of_cases_held_or_not(client: Client, db: Database, ids: list[str]) -> None:
    url = await case_of(client, ids[:2], legal_hold=True)
    await forget_subject(db, ALICE)
    (left,) = (await body(await client.get(f"{url}/sightings")))["sightings"]
    assert left["sighting_id"] == ids[1]
    await body(await client.post(f"{url}/sightings", json={"sighting_ids": [ids[0]]}), 404)


async def test_who_opts_out_leaves_cases_too(client: Client, db: Database, ids: list[str]) -> None:
    url = await case_of(client, ids[:2])
    store = SightingStore(db, episode_gap=timedelta(seconds=30))
    await db.execute("insert into opt_out (subject_id, set_by) values ($1, 'x')", uuid.UUID(ALICE))
    await store.record([arrival("a", subject="alice", revision=2)], now_s=NOW_S)
    (left,) = (await body(await client.get(f"{url}/sightings")))["sightings"]
    assert left["sighting_id"] == ids[1]


async def export(client: Client, url: str) -> bytes:
    response = await client.get(f"{url}/export.zip")
    assert (response.status, response.content_type) == (200, "application/zip")
    return await response.read()


def rebuilt(data: bytes, **changed: bytes | None) -> io.BytesIO:
    """Return a zip with some files changed, left out (None) or added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        files = {name: old.read(name) for name in old.namelist()} | changed
        for name, content in files.items():
            if content is not None:
                new.writestr(name, content)
    return out


async def test_an_export_holds_everything_and_its_hashes(client: Client, db: Database, ids: list[str]) -> None:
    url = await case_of(client, ids[:2])
    await client.post(f"{url}/notes", json={"text": "Same jacket"})
    data = await export(client, url)
    facts = verify(io.BytesIO(data), db.vault.derived(PURPOSE))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        listed = {one["name"]: one["sha256"] for one in facts["files"]}
        assert set(archive.namelist()) == {*listed, "manifest.json", "manifest.hmac"}
        assert all(hashlib.sha256(archive.read(name)).hexdigest() == digest for name, digest in listed.items())
        assert json.loads(archive.read("case.json"))["notes"][0]["text"] == "Same jacket"
        shown = [json.loads(archive.read(name)) for name in sorted(listed) if name.startswith("sightings/") and name.endswith(".json")]
    assert {one["sighting"]["subject"] for one in shown} == {"Alice", None}
    assert {one["note"] for one in shown} == {"tries the handle"}
    assert sum(name.endswith(".jpg") for name in listed) == 2
    assert (facts["exported_by"], facts["pictures"]) == ({"actor": "settings", "name": "administrator"}, "as they were taken")


async def test_a_changed_export_shows(client: Client, db: Database, ids: list[str]) -> None:
    data = await export(client, await case_of(client, ids[:1]))
    keys = db.vault.derived(PURPOSE)
    (picture,) = [name for name in zipfile.ZipFile(io.BytesIO(data)).namelist() if name.endswith(".jpg")]
    manifest = zipfile.ZipFile(io.BytesIO(data)).read("manifest.json")
    cases: list[tuple[dict[str, bytes | None], str]] = [
        ({picture: b"another"}, f"{picture}: was changed after the export"),
        ({picture: None}, "its files are not those of the manifest"),
        ({"more.txt": b"x"}, "its files are not those of the manifest"),
        ({"manifest.json": manifest.replace(b"administrator", b"somebody else")}, "manifest.json: its signature is not of this"),
        ({"manifest.hmac": b"hmac-sha256 00\n"}, "manifest.json: its signature is not of this"),
        ({"manifest.hmac": None}, "it is no export of a case, or damaged"),
    ]
    for changed, told in cases:
        with pytest.raises(UnreadableMediaError, match=told):
            verify(rebuilt(data, **changed), keys)
    with pytest.raises(UnreadableMediaError, match="it is no export of a case, or damaged"):
        verify(io.BytesIO(data[:-40]), keys)
    with pytest.raises(UnreadableMediaError, match="its signature is not of this deployment's key"):
        verify(io.BytesIO(data), Vault([bytes(32)]).derived(PURPOSE))


async def test_what_is_not_granted_is_not_there(client: Client, db: Database, ids: list[str]) -> None:
    await db.execute("insert into camera (name, url_encrypted, url_redacted, groups) values ('door', '', '', '{north}')")
    case_id = (await case_of(client, ids[:2])).rpartition("/")[2]
    with pytest.raises(NotFoundError, match="there is none"):
        await CaseStore(db, scope=Scope(collections=frozenset(("staff",)))).get(case_id)
    narrow = CaseStore(db, scope=Scope(camera_groups=frozenset(("north",))))
    assert (await narrow.get(case_id)).sightings == 1
    assert [one.camera for one in (await narrow.sightings(case_id, limit=9))[0]] == ["door"]
    assert await narrow.take(case_id, ids[1]) is False
    with pytest.raises(NotFoundError, match="has none of this id; nothing was changed"):
        await narrow.put(case_id, [ids[1]], note=None, added_by="x")


async def test_notes_are_sealed_and_move_to_a_new_key(client: Client, db: Database, ids: list[str]) -> None:
    url = await case_of(client, ids[:1])
    await client.post(f"{url}/notes", json={"text": "geheim"})
    assert "geheim" not in repr(await db.fetch("select * from case_note"))
    assert "handle" not in repr(await db.fetch("select * from case_sighting"))
    assert [await count(db, column) for column in SEALED] == [(1, 0), (1, 0), (0, 0)]
