"""A case as a zip that proves itself: every file's SHA-256 in a manifest, the manifest signed with a key of the deployment.

The signature is HMAC-SHA256 over the bytes of ``manifest.json``: it shows that this deployment made the export and that nobody changed it
since, to whoever has the deployment's key (``sightline cases verify``).
"""

import hashlib
import hmac
import io
import json
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from core.errors import UnreadableMediaError
from core.vault import Vault

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.hmac"
PURPOSE: Final = "case export"
MAX_FILE_BYTES: Final = 64 << 20  # of a file when verified: ours have some KB
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of the files in the zip: when it was made stands in the manifest


class _Pipe(io.RawIOBase):
    """Takes what zipfile writes, until it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Say that it can be written to; there is no way back in it, so zipfile writes sizes behind the files."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes."""
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """Return what came since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


@dataclass
class CaseArchive:
    """A zip that is made file by file. Thread rule: one task."""

    vault: Vault
    facts: dict[str, Any]
    """Of the manifest: which case, who exported it, when."""
    files: list[dict[str, Any]] = field(default_factory=list)
    _pipe: _Pipe = field(default_factory=_Pipe)

    async def stream(self, contents: AsyncIterator[tuple[str, bytes]]) -> AsyncIterator[bytes]:
        """Yield the zip's bytes: the files as they come, then manifest and signature."""
        with zipfile.ZipFile(self._pipe, "w") as archive:
            async for name, data in contents:
                self._add(archive, name, data)
                self.files.append({"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})
                yield self._pipe.taken()
            manifest = json.dumps({**self.facts, "files": self.files}, indent=2, ensure_ascii=False).encode()
            self._add(archive, MANIFEST, manifest)
            self._add(archive, SIGNATURE, sign(self.vault, manifest))
        yield self._pipe.taken()

    def _add(self, archive: zipfile.ZipFile, name: str, data: bytes) -> None:
        info = zipfile.ZipInfo(name, _EPOCH)
        info.compress_type = zipfile.ZIP_STORED if name.endswith(".jpg") else zipfile.ZIP_DEFLATED
        archive.writestr(info, data)


def sign(vault: Vault, manifest: bytes) -> bytes:
    """Return the text of a manifest's signature."""
    return f"hmac-sha256 {hmac.digest(vault.derived(PURPOSE)[0], manifest, 'sha256').hex()}\n".encode()


def verify(data: io.BufferedIOBase, keys: Sequence[bytes]) -> dict[str, Any]:
    """Check an export and return its manifest.

    Args:
        data: the zip.
        keys: ``vault.derived(PURPOSE)``.

    Raises:
        UnreadableMediaError: no export, another deployment's, or changed since; which file.
    """
    try:
        with zipfile.ZipFile(data) as archive:
            manifest = _read(archive, MANIFEST)
            given = _read(archive, SIGNATURE).decode("ascii").split()
            wanted = [hmac.digest(key, manifest, "sha256").hex() for key in keys]
            if len(given) != 2 or given[0] != "hmac-sha256" or not any([hmac.compare_digest(one, given[1]) for one in wanted]):
                raise UnreadableMediaError(f"{MANIFEST}: its signature is not of this deployment's key, or it was changed")
            facts: dict[str, Any] = json.loads(manifest)
            _check_files(archive, {one["name"]: one["sha256"] for one in facts["files"]})
            return facts
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RuntimeError) as err:
        raise UnreadableMediaError(f"it is no export of a case, or damaged: {err}") from err


def _check_files(archive: zipfile.ZipFile, wanted: dict[str, str]) -> None:
    names = [name for name in archive.namelist() if name not in (MANIFEST, SIGNATURE)]
    if sorted(names) != sorted(wanted) or len(archive.namelist()) != len(wanted) + 2:
        raise UnreadableMediaError("its files are not those of the manifest: some are missing, double or added")
    for name, digest in wanted.items():
        if hashlib.sha256(_read(archive, name)).hexdigest() != digest:
            raise UnreadableMediaError(f"{name}: was changed after the export")


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_FILE_BYTES:
        raise UnreadableMediaError(f"{name}: has more than {MAX_FILE_BYTES} bytes")
    return archive.read(name)
