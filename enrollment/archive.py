"""A zip of photos, read in memory: nothing is unpacked to disk, so no member's name can reach outside. Hostile zips are refused."""

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from core.errors import UnreadableMediaError
from core.photo import MAX_BYTES

MAX_MEMBERS: Final = 100_000
MAX_TOTAL_BYTES: Final = 64 << 30  # a hundred thousand phone photos have about this size
MAX_RATIO: Final = 1000  # deflate's own limit is 1032; only a bomb comes near
RATIO_FROM_BYTES: Final = 4 << 20  # below this a member is harmless, whatever its ratio
NESTED: Final = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_ENCRYPTED = 0x1
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, LookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of the zip that may be read."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberProblem:
    """A file of the zip that may not be read."""

    name: str
    words: str


class Archive:
    """An open zip. Thread rule: any thread (zipfile locks the file)."""

    def __init__(self, file: zipfile.ZipFile, name: str) -> None:
        self._file = file
        self._name = name
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self.members: list[Member] = []
        self.problems: list[MemberProblem] = []
        for info in file.infolist():
            if info.is_dir():
                continue
            if words := _refusal(info):
                self.problems.append(MemberProblem(name=_shown(info.filename), words=words))
            elif info.filename in self._infos:
                self.problems.append(MemberProblem(name=_shown(info.filename), words="is in the zip twice; only the first is read"))
            else:
                self._infos[info.filename] = info
                self.members.append(Member(name=info.filename, size_bytes=info.file_size))

    def read(self, name: str) -> bytes:
        """Return a member's bytes, at most MAX_BYTES + 1 of them whatever its header says.

        Raises:
            UnreadableMediaError: the member is damaged.
        """
        try:
            with self._file.open(self._infos[name]) as member:
                return member.read(MAX_BYTES + 1)
        except _ZIP_ERRORS as err:
            raise UnreadableMediaError(f"{PurePosixPath(name).name}: damaged in the zip ({err}); make the zip anew") from err


def open_archive(path: Path) -> Archive:
    """Open a zip and check its table of contents.

    Raises:
        UnreadableMediaError: it is no zip, damaged, or has too many members.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _ZIP_ERRORS as err:
        raise UnreadableMediaError(f"{path.name}: can't be read as a zip ({err}); make it anew") from err
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise UnreadableMediaError(f"{path.name}: has {len(infos)} members, at most {MAX_MEMBERS} are read; split it")
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL_BYTES:
        raise UnreadableMediaError(f"{path.name}: would unpack to {total >> 30} GB, at most {MAX_TOTAL_BYTES >> 30} are read; split it")
    return Archive(archive, path.name)


def _refusal(info: zipfile.ZipInfo) -> str:
    parts = PurePosixPath(info.filename).parts
    if info.filename.startswith(("/", "\\")) or ".." in parts or "\\" in info.filename or ":" in parts[0]:
        return "has an unsafe name; make the zip from a plain folder"
    if info.filename.lower().endswith(NESTED):
        return "is an archive inside the zip; unpack it first"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted; make a zip without a password"
    if info.file_size > MAX_BYTES:
        return f"is larger than {MAX_BYTES >> 20} MB; save it smaller"
    if info.file_size > RATIO_FROM_BYTES and info.file_size > MAX_RATIO * max(1, info.compress_size):
        return "unpacks to a thousand times its size, like a zip bomb; leave it out"
    return ""


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)[:200]
