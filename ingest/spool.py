"""Frames on disk while the log is away: append-only segment files in one folder, which one process owns.

A segment is ``NNNNNNNN.spool``: 8 bytes of magic, then records of (state, length, CRC-32, frame as on the wire). A record is written whole
or cut off at the next start; once the log has a frame, its state byte is cleared, and a segment without live records is deleted. What was
written survives the death of the process at any moment (the page cache has it); a power cut may cost the last second (SYNC_S). Files are
readable by their owner only: they hold pictures of people.
"""

import contextlib
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import MessageError, SettingsError, SightlineError
from core.schema import FrameHeader, decode, encode
from ingest.outbox import GatedFrame

MAGIC = b"SLSPOOL1"
SUFFIX = ".spool"
LOCK_FILE = "lock"
RECORD = struct.Struct("<BII")  # state, length, CRC-32 of the bytes
LIVE, FINISHED = 0xFF, 0  # anything between is taken for live: a duplicate is harmless
SEGMENT_BYTES = 8 << 20  # 40 to 80 frames: small enough that disk space comes back while a long spool drains
SYNC_S = 1.0


class SpoolFullError(SightlineError):
    """No room: the bound is reached, or the disk is full or broken. Not written; may be tried again."""

    code = "spool_full"


@dataclass(slots=True, eq=False)
class Segment:
    """One file."""

    path: Path
    size: int = len(MAGIC)
    live: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Where a frame lies."""

    spool: "Spool" = field(repr=False)
    segment: Segment
    offset: int
    length: int


class Spool:
    """The spool in one folder. Thread rule: one thread at a time (``frames`` and ``bytes`` may be read by any)."""

    def __init__(self, folder: Path, capacity_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a folder; ``open`` does the work."""
        self.folder, self._capacity, self._clock = folder, capacity_bytes, clock
        self.frames = 0
        self.bytes = 0
        self.damaged = 0
        """Pieces that could not be read at the start: torn off at a kill or a power cut, or rotten."""
        self._lock: int | None = None
        self._active: Segment | None = None
        self._descriptor = -1
        self._number = 0
        self._synced_s = float("-inf")

    def open(self) -> list[tuple[Kept, FrameHeader]] | None:
        """Own the folder and return what an earlier process left, oldest first; None when another process owns it.

        Raises:
            SettingsError: the folder can't be made, read or written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._own():
                return None
            left: list[tuple[Kept, FrameHeader]] = []
            for path in sorted(self.folder.glob("*" + SUFFIX)):
                left += self._recover(path)
                self._number = max(self._number, int(path.stem))
        except (OSError, ValueError) as err:
            self.close()
            raise SettingsError(
                f"{self.folder}: the spool can't be opened: {err}; the folder must be writable, with its own files only"
            ) from err
        return left

    def append(self, frame: GatedFrame) -> Kept:
        """Write a frame.

        Raises:
            SpoolFullError: and nothing was written.
        """
        data = encode(frame.header, frame.jpeg)
        need = RECORD.size + len(data)
        if self.bytes + need > self._capacity:
            raise SpoolFullError(f"{self.folder}: the spool holds {self.bytes} of {self._capacity} bytes (ingest.spool_bytes)")
        try:
            segment = self._writable()
            _write_all(self._descriptor, RECORD.pack(LIVE, len(data), zlib.crc32(data)) + data)
        except OSError as err:
            self._cut()
            raise SpoolFullError(f"{self.folder}: {err.strerror}") from err
        kept = Kept(self, segment, segment.size, len(data))
        segment.size += need
        segment.live += 1
        self.bytes += need
        self.frames += 1
        self._sync()
        if segment.size >= SEGMENT_BYTES:
            self._seal()
        return kept

    def read(self, kept: Kept) -> GatedFrame:
        """Read a frame back.

        Raises:
            MessageError: it is not what was written.
        """
        where = f"{kept.segment.path} at {kept.offset}"
        try:
            with kept.segment.path.open("rb") as file:
                file.seek(kept.offset)
                _, length, crc = RECORD.unpack(file.read(RECORD.size))
                data = file.read(kept.length)
        except (OSError, struct.error) as err:
            raise MessageError(f"{where}: {err}") from err
        if length != kept.length or zlib.crc32(data) != crc:
            raise MessageError(f"{where}: the checksum is wrong")
        header, jpeg = decode(FrameHeader, data)
        return GatedFrame(header, bytes(jpeg))

    def finish(self, kept: Kept) -> None:
        """Forget a frame; the file goes with its last one."""
        segment = kept.segment
        segment.live -= 1
        self.frames -= 1
        if segment.live == 0:
            if segment is self._active:
                self._seal(sync=False)
            self.bytes -= segment.size
        with contextlib.suppress(OSError):  # then it comes again after a restart: a duplicate, never a loss
            if segment.live == 0:
                segment.path.unlink(missing_ok=True)
                return
            descriptor = os.open(segment.path, os.O_WRONLY)
            try:
                os.pwrite(descriptor, bytes([FINISHED]), kept.offset)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Let go of the folder; what is in it stays."""
        self._seal()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _own(self) -> bool:
        descriptor = os.open(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _recover(self, path: Path) -> list[tuple[Kept, FrameHeader]]:
        """Read a segment; cut it after its last good record, and delete it when nothing in it lives."""
        data = memoryview(path.read_bytes())
        segment = Segment(path)
        found: list[tuple[Kept, FrameHeader]] = []
        offset = segment.size
        while data[: len(MAGIC)] == MAGIC and offset + RECORD.size <= len(data):
            state, length, crc = RECORD.unpack_from(data, offset)
            body = data[offset + RECORD.size : offset + RECORD.size + length]
            if not length or len(body) < length:
                break
            if (header := _header(body, crc)) is None:
                self.damaged += 1
            else:
                segment.size = offset + RECORD.size + length
                if state != FINISHED:
                    found.append((Kept(self, segment, offset, length), header))
            offset += RECORD.size + length
        if segment.size < len(data):
            self.damaged += offset < len(data)
            os.truncate(path, segment.size)
        segment.live = len(found)
        if not found:
            path.unlink()
            return []
        self.bytes += segment.size
        self.frames += segment.live
        return found

    def _writable(self) -> Segment:
        if self._active is None:
            path = self.folder / f"{self._number + 1:08d}{SUFFIX}"
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._number += 1
            self._active = Segment(path)
            self.bytes += self._active.size
            _write_all(self._descriptor, MAGIC)
        return self._active

    def _cut(self) -> None:
        """Take back what a failed write left behind."""
        if self._active is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._active.size if self._active.live else 0)
        segment = self._active
        self._seal(sync=False)
        if not segment.live:
            self.bytes -= segment.size
            with contextlib.suppress(OSError):
                segment.path.unlink(missing_ok=True)

    def _sync(self) -> None:
        if self._clock() - self._synced_s >= SYNC_S:
            with contextlib.suppress(OSError):  # it is in the page cache: the promise about kills holds
                os.fdatasync(self._descriptor)
            self._synced_s = self._clock()

    def _seal(self, *, sync: bool = True) -> None:
        if self._active is None:
            return
        if sync:
            with contextlib.suppress(OSError):
                os.fdatasync(self._descriptor)
        os.close(self._descriptor)
        self._active, self._descriptor = None, -1


def _header(body: memoryview, crc: int) -> FrameHeader | None:
    """Return the header of a frame on disk, None when it is damaged."""
    if zlib.crc32(body) != crc:
        return None
    try:
        return decode(FrameHeader, body)[0]
    except MessageError:
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def own_slot(root: Path, capacity_bytes: int) -> tuple[Spool, list[tuple[Kept, FrameHeader]]]:
    """Return the first spool of a folder that no other process owns, and what is in it: processes that share a data folder get one each.

    Raises:
        SettingsError: the folder can't be made, read or written.
    """
    number = 0
    while True:
        spool = Spool(root / str(number), capacity_bytes)
        left = spool.open()
        if left is not None:
            return spool, left
        number += 1


def orphans(root: Path, own: Spool) -> list[tuple[Spool, list[tuple[Kept, FrameHeader]]]]:
    """Take over the spools of dead processes that hold frames.

    Raises:
        SettingsError: one can't be read.
    """
    found = []
    try:
        folders = sorted(root.iterdir())
    except OSError as err:
        raise SettingsError(f"{root}: {err.strerror}") from err
    for folder in folders:
        if folder == own.folder or not folder.name.isdecimal() or not any(folder.glob("*" + SUFFIX)):
            continue
        spool = Spool(folder, 0)
        left = spool.open()
        if left:
            found.append((spool, left))
        elif left is not None:
            spool.close()
    return found
