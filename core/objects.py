"""Objects sealed at rest, for stores that are ours: a sealed stream of chunks over any object store.

An object is ``SLO1`` and then for each chunk ``length (4) | last (1) | sealed chunk``. The label of a chunk binds it to its key, its
place and whether it is the last, so that nothing can be swapped, reordered or cut off unnoticed. An object without the mark (one that an
operator put into the folder) is read as it is.
"""

import struct
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Final

from core.errors import UnreadableMediaError
from core.ports import ObjectInfo, ObjectStore
from core.vault import OVERHEAD_BYTES, Vault

MARK: Final = b"SLO1"
CHUNK_BYTES: Final = 1 << 20
OURS: Final = ("uploads", "jobs")  # what is in the inbox is its operator's
_HEAD = struct.Struct(">IB")


class SealedObjects:
    """core.ports.ObjectStore that seals what it writes. Thread rule: one event loop."""

    def __init__(self, inner: ObjectStore, vault: Vault) -> None:
        self._inner = inner
        self._vault = vault

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> None:
        """Store an object, sealed."""
        await self._inner.put(key, self._sealed(key, chunks))

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """Yield an object's content.

        Raises:
            NotFoundError: there is none. UnreadableMediaError: it is cut off. SettingsError: no key opens it, or it was changed.
        """
        buffer = bytearray()
        sealed: bool | None = None
        place, ended = 0, False
        async for piece in self._inner.read(key):
            buffer += piece
            if sealed is None and len(buffer) >= len(MARK):
                sealed = buffer.startswith(MARK)
                if sealed:
                    del buffer[: len(MARK)]
            if sealed is False:
                yield bytes(buffer)
                buffer.clear()
            while sealed and (chunk := _take(buffer)) is not None:
                last, body = chunk
                yield self._vault.open(body, label=_label(key, place, last))
                place, ended = place + 1, last
        if sealed and (not ended or buffer):
            raise UnreadableMediaError(f"object {key}: is cut off; store it again")
        if sealed is None and buffer:
            yield bytes(buffer)

    async def info(self, key: str) -> ObjectInfo:
        """Return what is known of an object; its size is that of what is stored."""
        return await self._inner.info(key)

    def under(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below a prefix."""
        return self._inner.under(prefix)

    async def delete(self, key: str) -> None:
        """Delete an object, there or not."""
        await self._inner.delete(key)

    async def presigned_put(self, key: str, expires_s: float) -> str | None:
        """Return None: what others would put there directly would not be sealed."""
        return None

    async def reseal(self) -> int:
        """Seal anew, with the newest key, what another one has sealed below uploads/ and jobs/; return how many objects that were.

        Raises:
            SettingsError: no key here opens one.
        """
        keys = [one.key for prefix in OURS async for one in self._inner.under(prefix)]
        waiting = [key for key in keys if await self._waits(key)]
        for key in waiting:
            await self.put(key, self.read(key))
        return len(waiting)

    async def _waits(self, key: str) -> bool:
        """Tell whether another key than the newest has sealed an object."""
        async with aclosing(self._inner.read(key)) as pieces:  # type: ignore[type-var]
            start = await anext(pieces, b"")
        return start.startswith(MARK) and not self._vault.is_newest(start[len(MARK) + _HEAD.size :])

    async def _sealed(self, key: str, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        yield MARK
        buffer = bytearray()
        place = 0
        async for piece in chunks:
            buffer += piece
            while len(buffer) > CHUNK_BYTES:
                yield self._frame(key, place, bytes(buffer[:CHUNK_BYTES]), last=False)
                del buffer[:CHUNK_BYTES]
                place += 1
        yield self._frame(key, place, bytes(buffer), last=True)

    def _frame(self, key: str, place: int, data: bytes, *, last: bool) -> bytes:
        body = self._vault.seal(data, label=_label(key, place, last))
        return _HEAD.pack(len(body), last) + body


def _label(key: str, place: int, last: bool) -> str:
    return f"object/{key}/{place}/{'last' if last else 'more'}"


def _take(buffer: bytearray) -> tuple[bool, bytes] | None:
    """Take one whole chunk off the buffer; None when more must be read first."""
    if len(buffer) < _HEAD.size:
        return None
    length, last = _HEAD.unpack_from(buffer)
    if length > CHUNK_BYTES + OVERHEAD_BYTES:
        raise UnreadableMediaError("object: a chunk is longer than any that was stored; store it again")
    if len(buffer) < _HEAD.size + length:
        return None
    body = bytes(buffer[_HEAD.size : _HEAD.size + length])
    del buffer[: _HEAD.size + length]
    return bool(last), body
