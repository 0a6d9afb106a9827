"""What jobs read: uploads, and the inbox of a collection in object storage. Large files are copied to disk for as long as a job runs.

A job reads its own uploads and ``inbox/COLLECTION/``, nothing else: whoever may use a collection may use what lies in its inbox.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from api.storage.store import upload_key
from core.errors import UnavailableError, UnreadableMediaError
from core.photo import MAX_BYTES
from core.ports import ObjectStore

WORK_FOLDER: Final = "work"
MAX_FILE_BYTES: Final = 64 << 30  # as much as a zip may unpack to
SPARE_BYTES: Final = 1 << 30  # of disk left to the database


class JobFiles:
    """What one job may read. Thread rule: one event loop."""

    def __init__(self, objects: ObjectStore, collection: str, folder: Path) -> None:
        self._objects = objects
        self._root = f"inbox/{collection}"
        self._folder = folder

    def inbox(self, name: str = "") -> str:
        """Return the key of something in the inbox."""
        return f"{self._root}/{name}" if name else self._root

    async def names(self, prefix: str) -> list[str]:
        """Return the names below a prefix of the inbox, relative to it, in order."""
        root = self.inbox(prefix)
        return sorted([one.key.removeprefix(f"{root}/") async for one in self._objects.under(root)])

    async def small(self, key: str, *, most: int = MAX_BYTES) -> bytes:
        """Return an object's content, at most one byte more than ``most`` of it."""
        data = bytearray()
        async for piece in self._objects.read(key):
            data += piece
            if len(data) > most:
                break
        return bytes(data[: most + 1])

    async def upload(self, upload_id: str) -> Path:
        """Copy an upload to disk; see copy."""
        return await self.copy(upload_key(uuid.UUID(upload_id)))

    async def copy(self, key: str, name: str = "") -> Path:
        """Copy an object to the job's folder, once.

        Raises:
            NotFoundError: there is none. UnreadableMediaError: larger than MAX_FILE_BYTES. UnavailableError: the disk is full.
        """
        path = self._folder / uuid.uuid5(uuid.NAMESPACE_URL, key).hex / (Path(name).name or "file")
        if path.exists():
            return path
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f".{path.name[:100]}.part")
        try:
            with draft.open("wb") as file:
                size = 0
                async for piece in self._objects.read(key):
                    size += len(piece)
                    self._check(size, key)
                    await asyncio.to_thread(file.write, piece)
            draft.replace(path)
        except OSError as err:
            draft.unlink(missing_ok=True)
            raise UnavailableError(f"{self._folder}: {err.strerror}; make room") from err
        return path

    def forget(self, path: Path) -> None:
        """Delete a copy that is not needed any more."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def _check(self, size: int, key: str) -> None:
        if size > MAX_FILE_BYTES:
            raise UnreadableMediaError(f"{key}: larger than {MAX_FILE_BYTES >> 30} GB; split it")
        if shutil.disk_usage(self._folder).free < SPARE_BYTES:
            raise UnavailableError(f"{self._folder}: less than {SPARE_BYTES >> 30} GB of disk are left; make room")


@asynccontextmanager
async def open_files(objects: ObjectStore, collection: str, data_dir: Path) -> AsyncIterator[JobFiles]:
    """Open what a job of a collection may read; copies are gone at the end, also after a kill: then as soon as another one opens."""
    with _folder(data_dir / WORK_FOLDER) as folder:
        yield JobFiles(objects, collection, folder)


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """Make a folder that is locked as long as this process lives; remove those that nobody holds any more."""
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(parent)
        folder = Path(tempfile.mkdtemp(dir=parent))
        lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as err:
        raise UnavailableError(f"{parent}: {err.strerror}; jobs need a folder to work in") from err
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove what processes left that were killed: theirs are the folders with a lock that is free."""
    for lock_file in parent.glob("*/.lock"):
        with contextlib.suppress(OSError):
            lock = os.open(lock_file, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock_file.parent, ignore_errors=True)
            finally:
                os.close(lock)
