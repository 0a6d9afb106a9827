"""Object storage behind core.ports.ObjectStore: memory, a folder, or S3, chosen by URL. The only importer of obstore."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from core.errors import NotFoundError, SettingsError, UnavailableError, UsageError
from core.objects import SealedObjects
from core.ports import ObjectInfo, ObjectStore
from core.settings import StorageSettings
from core.vault import Vault

if TYPE_CHECKING:
    from obstore.store import S3Config  # in its type stubs alone

FOLDER: Final = "objects"
READ_BYTES: Final = 1 << 20
CALL_S: Final = 30.0
LIST_PAGE: Final = 500
_RETRIES: Final = 3


def open_object_store(settings: StorageSettings, *, data_dir: Path, vault: Vault) -> ObjectStore:
    """Return the store that the settings name. Nothing is reached yet.

    Args:
        settings: ``file:`` (a folder), ``s3://bucket/prefix`` or ``memory:``.
        data_dir: where the folder is when ``file:`` names none.
        vault: seals what is stored in memory and in folders; a bucket seals by itself (SSE), for clients put into it directly.

    Raises:
        SettingsError: the URL is none of these, or the folder can't be made.
    """
    parts = urlsplit(settings.url)
    if parts.scheme == "memory":
        return SealedObjects(_Objects(MemoryStore(), signs=False), vault)
    if parts.scheme == "file":
        return SealedObjects(_Objects(_folder(Path(parts.path) if parts.path else data_dir / FOLDER), signs=False), vault)
    if parts.scheme == "s3" and parts.hostname:
        return _Objects(_bucket(settings, parts.netloc, parts.path.strip("/")), signs=True)
    raise SettingsError(f"storage.url: {parts.scheme or 'it'}: is no object store we know; use file:, file:///folder or s3://bucket/prefix")


def _folder(path: Path) -> LocalStore:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return LocalStore(path, automatic_cleanup=True)
    except (OSError, BaseError) as err:
        raise SettingsError(f"storage.url: {path}: can't be used as a folder: {err}") from err


def _bucket(settings: StorageSettings, bucket: str, prefix: str) -> S3Store:
    """Return S3 with our limits; without a key in the settings, that of the environment or the machine's role."""
    config: S3Config = {}
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    if settings.region:
        config["region"] = settings.region
    if settings.access_key_id:
        config["access_key_id"] = settings.access_key_id
        config["secret_access_key"] = settings.secret_access_key.get_secret_value()
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options={"allow_http": settings.endpoint.startswith("http://"), "timeout": f"{CALL_S:.0f}s", "connect_timeout": "5s"},
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=CALL_S)},
        )
    except (BaseError, ValueError) as err:
        raise SettingsError(f"storage: {_first_line(err)}") from err


class _Objects:
    """core.ports.ObjectStore over obstore. Thread rule: one event loop."""

    def __init__(self, store: Any, *, signs: bool) -> None:
        self._store = store
        self._signs = signs

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> None:
        """Store an object; large ones in parts."""
        failed: list[Exception] = []
        with _our_errors(key, failed):
            await obstore.put_async(self._store, _checked(key), _watched(chunks, failed))

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """Yield an object's content."""
        with _our_errors(key):
            async with asyncio.timeout(CALL_S):
                found = await obstore.get_async(self._store, _checked(key))
            pieces = aiter(found.stream(min_chunk_size=READ_BYTES))
        while True:
            with _our_errors(key):
                async with asyncio.timeout(CALL_S):
                    piece = await anext(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    async def info(self, key: str) -> ObjectInfo:
        """Return what is known of an object."""
        with _our_errors(key):
            async with asyncio.timeout(CALL_S):
                return _info(await obstore.head_async(self._store, _checked(key)))

    async def under(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below a prefix."""
        with _our_errors(prefix):
            pages = aiter(obstore.list(self._store, _checked(prefix), chunk_size=LIST_PAGE))
        while True:
            with _our_errors(prefix):
                async with asyncio.timeout(CALL_S):
                    page = await anext(pages, None)
            if page is None:
                return
            for one in page:
                yield _info(one)

    async def delete(self, key: str) -> None:
        """Delete an object, there or not."""
        with contextlib.suppress(NotFoundError), _our_errors(key):
            async with asyncio.timeout(CALL_S):
                await obstore.delete_async(self._store, _checked(key))

    async def presigned_put(self, key: str, expires_s: float) -> str | None:
        """Return a presigned URL of S3."""
        if not self._signs:
            return None
        with _our_errors(key):
            async with asyncio.timeout(CALL_S):  # credentials of a role are fetched first
                return str(await obstore.sign_async(self._store, "PUT", _checked(key), timedelta(seconds=expires_s)))


async def _watched(chunks: AsyncIterable[bytes], failed: list[Exception]) -> AsyncIterator[bytes]:
    """Yield the chunks, and remember how they ended: obstore must not turn our own errors into its."""
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as err:  # whatever it is; not that obstore has closed us, which is its own failure
        failed.append(err)
        raise


def _checked(key: str) -> str:
    """Return a key of plain parts: what obstore and S3 would each read in their own way is refused.

    Raises:
        UsageError: it is empty, absolute, has empty parts, ``.``, ``..``, control characters or backslashes.
    """
    if not key or any(part in ("", ".", "..") for part in key.split("/")) or "\\" in key or any(ord(c) < 32 or ord(c) == 127 for c in key):
        raise UsageError(f"object {ascii(key)[:100]}: is no key; use parts with a slash between them")
    return key


def _info(found: Any) -> ObjectInfo:
    return ObjectInfo(key=found["path"], size_bytes=found["size"], changed_at=found["last_modified"])


@contextlib.contextmanager
def _our_errors(key: str, failed: list[Exception] | None = None) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError) as err:
        if failed:
            raise failed[0] from err
        if isinstance(err, TimeoutError):
            raise UnavailableError(f"object storage: {key}: no answer within {CALL_S:.0f} s") from err
        if isinstance(err, FileNotFoundError):
            raise NotFoundError(f"object {key}: there is none") from err
        if isinstance(err, ValueError):
            raise UsageError(f"object {ascii(key)[:100]}: is no key: {_first_line(err)}") from err
        raise UnavailableError(f"object storage: {key}: {_first_line(err)}") from err


def _first_line(err: BaseException) -> str:
    """Return what happened, without obstore's debug lines and without the query of a URL, which may be signed."""
    return (str(err).splitlines() or [type(err).__name__])[0].split("?", 1)[0][:300]
