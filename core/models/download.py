"""Fetching one file from the network: bounded in time and size, checked, and whole or not at all."""

import contextlib
import hashlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from core.errors import ModelError, UnavailableError

SILENCE_S = 30.0
"""Longest wait for the next bytes."""
DEADLINE_S = 3600.0
"""Longest download altogether: 300 MB at 80 kB/s."""
MAX_FILE_BYTES = 600 << 20
"""Largest file when its size is not recorded; ArcFace's ResNet-100 has 261 MB."""
CHUNK_BYTES = 1 << 18
AGENT = "sightline-models/1"

Progress = Callable[[int, int | None], None]
"""Told how many bytes there are, and how many there will be (None = unknown)."""


def download(url: str, target: Path, *, max_bytes: int = MAX_FILE_BYTES, progress: Progress | None = None) -> str:
    """Fetch ``url`` into ``target`` and return its sha256 in hex.

    Raises:
        UnavailableError: no network, no such page, too slow.
        ModelError: not https, or more than max_bytes.
    """
    if not url.startswith("https://"):
        raise ModelError(f"{url}: only https:// is fetched; for a file on this machine give its path")
    request = urllib.request.Request(url, headers={"User-Agent": AGENT})
    try:
        with urllib.request.urlopen(request, timeout=SILENCE_S) as response, target.open("wb") as file:
            length = response.headers.get("Content-Length")
            total = int(length) if length is not None and length.isdigit() else None
            return _copy(response, file, total, (max_bytes, progress))
    except urllib.error.HTTPError as err:
        raise UnavailableError(f"{url}: the server answers {err.code} {err.reason}; fetch it otherwise and use --from FILE") from err
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as err:
        reason = getattr(err, "reason", err)
        raise UnavailableError(f"{url}: can't be reached ({reason}); fetch it on another machine and use --from FILE") from err


def _copy(response: BinaryIO, file: BinaryIO, total: int | None, limits: tuple[int, Progress | None]) -> str:
    """Copy a response to a file within the limits; return the sha256."""
    max_bytes, progress = limits
    digest, done, started_s = hashlib.sha256(), 0, time.monotonic()
    while chunk := response.read(CHUNK_BYTES):
        done += len(chunk)
        if done > max_bytes:
            raise ModelError(f"download stopped: more than the allowed {max_bytes >> 20} MiB")
        if time.monotonic() - started_s > DEADLINE_S:
            raise UnavailableError(f"download stopped: not done after {DEADLINE_S / 60:.0f} minutes")
        file.write(chunk)
        digest.update(chunk)
        if progress is not None:
            progress(done, total)
    if total is not None and done != total:
        raise UnavailableError(f"download broke off at {done} of {total} bytes; try again")
    return digest.hexdigest()


@contextlib.contextmanager
def part_file(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; it takes target's place when the block ends well, and is removed when not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
