"""Uploads in the database, and their content in object storage."""

import base64
import binascii
import hashlib
import struct
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from api.errors import TooLargeError, UnauthorizedError, UnprocessableError
from core.errors import ConflictError, NotFoundError, SettingsError
from core.ports import Database, ObjectStore
from core.vault import Vault

_EXPIRY = struct.Struct(">Q")
_COLUMNS = "upload_id, created_by, name, sha256, size_bytes, created_at, expires_at"
_ADD = f"insert into upload (created_by, name, sha256, expires_at) values ($1, $2, $3, now() + $4) returning {_COLUMNS}"
_OLD = """
select upload_id from upload
where (created_at < now() - $1::interval or upload_id in (select unnest(uploads) from job where erase_uploads))
  and upload_id not in (select unnest(uploads) from job where state in ('queued', 'running'))
limit $2
"""
ERASED_AT_A_TIME: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUpload:
    """An upload as it is."""

    upload_id: uuid.UUID
    created_by: str
    name: str
    sha256: bytes | None
    size_bytes: int | None
    """None until it is there."""
    created_at: datetime
    expires_at: datetime

    @property
    def key(self) -> str:
        """Where its content is."""
        return upload_key(self.upload_id)


def upload_key(upload_id: uuid.UUID | str) -> str:
    """Return the key of an upload's content."""
    return f"uploads/{upload_id}"


class UploadStore:
    """Uploads. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, objects: ObjectStore) -> None:
        self._db = db
        self._objects = objects

    async def create(self, *, actor: str, name: str, sha256: bytes | None, expires_s: float) -> StoredUpload:
        """Make room for an upload."""
        return _upload((await self._db.fetch(_ADD, actor, name, sha256, timedelta(seconds=expires_s)))[0])

    async def get(self, upload_id: uuid.UUID, *, actor: str | None) -> StoredUpload:
        """Return an upload; what a client put into S3 directly is noticed here.

        Raises:
            NotFoundError: there is none of this actor (None = of anybody).
        """
        rows = await self._db.fetch(f"select {_COLUMNS} from upload where upload_id = $1", upload_id)
        if not rows or actor not in (None, rows[0]["created_by"]):
            raise NotFoundError(f"upload {upload_id}: there is none")
        if rows[0]["size_bytes"] is None:
            try:
                info = await self._objects.info(upload_key(upload_id))
            except NotFoundError:
                return _upload(rows[0])
            rows = await self._db.fetch(
                f"update upload set size_bytes = coalesce(size_bytes, $2) where upload_id = $1 returning {_COLUMNS}",
                upload_id,
                info.size_bytes,
            )
        return _upload(rows[0])

    async def receive(self, upload: StoredUpload, chunks: AsyncIterable[bytes], *, max_bytes: int) -> StoredUpload:
        """Store an upload's content.

        Raises:
            ConflictError: it is there already. TooLargeError: more than max_bytes. UnprocessableError: nothing, or not what was announced.
        """
        if upload.size_bytes is not None:
            raise ConflictError(f"upload {upload.upload_id}: is there already; ask for another one")
        counted = _Counted(upload, chunks, max_bytes)
        await self._objects.put(upload.key, counted.chunks())
        rows = await self._db.fetch(
            f"update upload set size_bytes = $2, sha256 = $3 where upload_id = $1 returning {_COLUMNS}",
            upload.upload_id,
            counted.size,
            counted.digest.digest(),
        )
        if not rows:
            await self._objects.delete(upload.key)
            raise NotFoundError(f"upload {upload.upload_id}: there is none")
        return _upload(rows[0])

    async def delete(self, upload_id: uuid.UUID) -> None:
        """Erase an upload, there or not. Its content goes first: a crash leaves a row to try again, never content without a row."""
        await self._objects.delete(upload_key(upload_id))
        await self._db.execute("delete from upload where upload_id = $1", upload_id)

    async def erase_old(self, keep: timedelta) -> int:
        """Erase uploads that are too old or used up, and return how many; none that an open job needs."""
        rows = await self._db.fetch(_OLD, keep, ERASED_AT_A_TIME)
        for row in rows:
            await self.delete(row["upload_id"])
        return len(rows)


class _Counted:
    """Chunks on their way, counted and hashed."""

    def __init__(self, upload: StoredUpload, chunks: AsyncIterable[bytes], max_bytes: int) -> None:
        self._upload, self._chunks, self._max_bytes = upload, chunks, max_bytes
        self.size = 0
        self.digest = hashlib.sha256()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield them; an error at the end stores nothing."""
        async for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > self._max_bytes:
                raise TooLargeError(f"the upload has more than the {self._max_bytes} bytes that are taken (storage.max_upload_bytes)")
            self.digest.update(chunk)
            yield chunk
        if not self.size:
            raise UnprocessableError("the upload is empty")
        if self._upload.sha256 not in (None, self.digest.digest()):
            raise UnprocessableError("the upload's content is not that of the announced sha256; ask for another one and send it again")


def make_token(vault: Vault, upload: StoredUpload) -> str:
    """Return what proves that its bearer may send this one upload until it expires; needs no memory of it."""
    sealed = vault.seal(_EXPIRY.pack(int(upload.expires_at.timestamp())), label=f"upload token {upload.upload_id}")
    return base64.urlsafe_b64encode(sealed).decode()


def check_token(vault: Vault, upload_id: uuid.UUID, token: str, *, now_s: float | None = None) -> None:
    """Refuse a token that is not of this upload, or has expired. Raises UnauthorizedError."""
    try:
        packed = vault.open(base64.b64decode(token.encode(), altchars=b"-_", validate=True), label=f"upload token {upload_id}")
        (expires_s,) = _EXPIRY.unpack(packed)
    except (SettingsError, binascii.Error, UnicodeError, struct.error, ValueError) as err:
        raise UnauthorizedError("X-Upload-Token: is not the one of this upload") from err
    if (time.time() if now_s is None else now_s) >= expires_s:
        raise UnauthorizedError("X-Upload-Token: has expired; ask for another upload")


def _upload(row: dict[str, Any]) -> StoredUpload:
    return StoredUpload(**row)
