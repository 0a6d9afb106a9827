"""core.ports.ObjectStore: one suite over memory, a folder, and S3's protocol with every signature checked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from pydantic import SecretStr

from core.adapters.object_store import open_object_store
from core.errors import NotFoundError, SettingsError, UnavailableError, UnreadableMediaError, UsageError
from core.objects import SealedObjects
from core.ports import ObjectStore
from core.settings import StorageSettings
from core.vault import Vault
from tests.builders.s3 import ACCESS_KEY, REGION, SECRET_KEY, open_s3

VAULT = Vault([b"k" * 32])
BIG = bytes(range(256)) * (45 << 10)  # 11.25 MiB: three parts of S3, twelve sealed chunks


def s3_settings(endpoint: str, **changes: object) -> StorageSettings:
    given = {
        "url": "s3://bucket/deep/prefix",
        "endpoint": endpoint,
        "region": REGION,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SecretStr(SECRET_KEY),
    }
    return StorageSettings.model_validate(given | changes)


@pytest.fixture(params=["memory", "file", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    if request.param == "s3":
        async with open_s3() as (paper, endpoint):
            yield open_object_store(s3_settings(endpoint), data_dir=tmp_path, vault=VAULT)
            assert paper.refused == []
            assert paper.parts == {}
    else:
        yield open_object_store(StorageSettings(url=f"{request.param}:"), data_dir=tmp_path, vault=VAULT)


async def pieces(data: bytes, size: int = 700_001) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def content(store: ObjectStore, key: str) -> bytes:
    return b"".join([piece async for piece in store.read(key)])


@pytest.mark.parametrize("data", [b"", b"x", b"SLO1", b"SLO1\x00\x00\x00\x01\x01x", BIG], ids=["empty", "byte", "mark", "like ours", "big"])
async def test_what_was_put_is_read(store: ObjectStore, data: bytes) -> None:
    await store.put("a/one.bin", pieces(data))
    assert await content(store, "a/one.bin") == data
    info = await store.info("a/one.bin")
    assert info.key == "a/one.bin"
    assert info.size_bytes >= len(data)


async def test_a_second_put_replaces(store: ObjectStore) -> None:
    await store.put("a", pieces(b"first"))
    await store.put("a", pieces(b"second"))
    assert await content(store, "a") == b"second"


async def test_an_error_of_the_sender_stores_nothing_and_is_raised(store: ObjectStore) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield BIG
        raise UnreadableMediaError("the client went away")

    with pytest.raises(UnreadableMediaError, match=r"^the client went away$"):
        await store.put("a/half", breaking())
    assert [one async for one in store.under("a")] == []


async def test_names_of_any_language_are_listed_below_their_prefix_only(store: ObjectStore) -> None:
    keys = ["in/Zoë Ölmann/1 (2).jpg", "in/ann/1.jpg", "in/ann/2.jpg", "in/张伟/a+b&c=d.png", "inner/x.jpg", "out.jpg"]
    for key in keys:
        await store.put(key, pieces(key.encode()))
    found = {one.key async for one in store.under("in")}
    assert found == set(keys[:4])
    assert [await content(store, key) for key in sorted(found)] == [key.encode() for key in sorted(found)]
    assert [one async for one in store.under("nothing")] == []


async def test_what_was_deleted_is_gone_and_deleting_again_is_no_error(store: ObjectStore) -> None:
    await store.put("a/b", pieces(b"x"))
    await store.delete("a/b")
    await store.delete("a/b")
    with pytest.raises(NotFoundError, match=r"^object a/b: there is none$"):
        await store.info("a/b")
    with pytest.raises(NotFoundError, match=r"^object a/b: there is none$"):
        await content(store, "a/b")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../b", "a//b", "a/./b", "a\\..\\b", "a\x00b", "a/", "a\nb"])
async def test_keys_that_could_lead_elsewhere_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(UsageError, match="is no key; use parts with a slash between them"):
        await store.put(key, pieces(b"x"))
    with pytest.raises(UsageError):
        await content(store, key)
    with pytest.raises(UsageError):
        await store.delete(key)


@pytest.mark.parametrize("url", ["memory:", "file:"])
async def test_our_own_stores_presign_nothing(url: str, tmp_path: Path) -> None:
    store = open_object_store(StorageSettings(url=url), data_dir=tmp_path, vault=VAULT)
    assert await store.presigned_put("a", 60) is None


async def test_a_folder_holds_nothing_in_the_clear(tmp_path: Path) -> None:
    store = open_object_store(StorageSettings(), data_dir=tmp_path, vault=VAULT)
    await store.put("uploads/a", pieces(b"a face" * 1000))
    (file,) = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert b"a face" not in file.read_bytes()
    with pytest.raises(SettingsError, match="is sealed with a key that is not here"):
        await content(open_object_store(StorageSettings(), data_dir=tmp_path, vault=Vault([b"x" * 32])), "uploads/a")


async def test_a_folder_notices_what_was_cut_off_moved_or_changed(tmp_path: Path) -> None:
    store = open_object_store(StorageSettings(), data_dir=tmp_path, vault=VAULT)
    await store.put("a", pieces(BIG))
    file = tmp_path / "objects" / "a"
    whole = file.read_bytes()
    chunk = 5 + (1 << 20) + 33
    for cut in (whole[: 4 + 3 * chunk], whole[:-1]):  # behind a whole chunk; inside the last one
        file.write_bytes(cut)
        with pytest.raises(UnreadableMediaError, match=r"^object a: is cut off; store it again$"):
            await content(store, "a")
    file.write_bytes(whole[:4] + whole[4 + chunk : 4 + 2 * chunk] + whole[4 : 4 + chunk] + whole[4 + 2 * chunk :])
    with pytest.raises(SettingsError, match="is damaged, or belongs to another row"):
        await content(store, "a")
    (tmp_path / "objects" / "b").write_bytes(whole)
    with pytest.raises(SettingsError, match="is damaged, or belongs to another row"):
        await content(store, "b")


async def test_what_an_operator_puts_into_the_folder_is_read_as_it_is(tmp_path: Path) -> None:
    store = open_object_store(StorageSettings(), data_dir=tmp_path, vault=VAULT)
    (tmp_path / "objects" / "inbox").mkdir()
    (tmp_path / "objects" / "inbox" / "ann.jpg").write_bytes(BIG)
    (tmp_path / "objects" / "inbox" / "b").write_bytes(b"abc")
    assert await content(store, "inbox/ann.jpg") == BIG
    assert await content(store, "inbox/b") == b"abc"


async def test_anybody_may_put_to_a_presigned_url_of_s3_and_nowhere_else(tmp_path: Path) -> None:
    async with open_s3() as (paper, endpoint), ClientSession() as client:
        store = open_object_store(s3_settings(endpoint), data_dir=tmp_path, vault=VAULT)
        url = await store.presigned_put("uploads/1", 60)
        assert url is not None
        assert (await client.put(url, data=b"photos")).status == 200
        assert await content(store, "uploads/1") == b"photos"
        assert list(paper.objects) == ["deep/prefix/uploads/1"]
        assert (await client.put(url.replace("uploads/1", "uploads/2"), data=b"x")).status == 403
        assert (await client.get(url)).status == 403
        assert SECRET_KEY not in url


async def test_an_s3_that_is_away_or_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    async with open_s3() as (_, endpoint):
        store = open_object_store(s3_settings(endpoint, secret_access_key=SecretStr("wrong")), data_dir=tmp_path, vault=VAULT)
        with pytest.raises(UnavailableError) as refused:
            await store.info("a")
    assert str(refused.value).startswith("object storage: a: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("url", "problem"), [("ftp://x", "ftp"), ("", "it"), ("s3:///x", "s3")])
def test_a_url_of_no_store_is_refused(url: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        open_object_store(StorageSettings(url=url), data_dir=tmp_path, vault=VAULT)
    assert str(refused.value) == f"storage.url: {problem}: is no object store we know; use file:, file:///folder or s3://bucket/prefix"


async def test_what_a_former_key_has_sealed_is_sealed_anew(tmp_path: Path) -> None:
    def store_of(*keys: bytes) -> ObjectStore:
        return open_object_store(StorageSettings(), data_dir=tmp_path, vault=Vault(keys))

    old, new = b"o" * 32, b"n" * 32
    await store_of(old).put("uploads/a", pieces(BIG))
    await store_of(new, old).put("jobs/b", pieces(b"b"))
    (tmp_path / "objects" / "uploads" / "plain").write_bytes(b"plain")
    both = store_of(new, old)
    assert isinstance(both, SealedObjects)
    assert await both.reseal() == 1
    assert await both.reseal() == 0
    assert await content(store_of(new), "uploads/a") == BIG
    assert await content(store_of(new), "uploads/plain") == b"plain"
