"""What was found on photos that come again: in memory alone, bounded, and emptied when anybody is erased.

An entry is known by the SHA-256 of the file, the model and which faces were asked for. It holds the faces with their embeddings, which cost
nearly all of a request, and what they were compared with, which counts for the generation of the gallery that answered and no other.
Thresholds and rules are applied anew each time.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

import structlog

from api.search.looked import Looked
from core.errors import UnavailableError
from core.metrics import Metrics
from core.ports import Database, MatchAnswer

CHANNEL = "gallery"
"""Of NOTIFY: enrollment tells each change of the gallery."""
RETRY_S = 1.0
ENTRY_BYTES = 1024  # of Python's objects, beside the arrays
FACE_BYTES = 1024
COMPARED_BYTES = 6144  # of one answer about one face with MOST_K candidates and some spare
MOST_K = 10
MOST_COMPARED = 4  # collections and numbers of candidates an entry is kept for

Key = tuple[bytes, str, str]
"""SHA-256 of the file, model, which faces."""
_ERASED = """
select max(generation) filter (where action = 'delete') as erased, max(generation) as newest from gallery_change where generation > $1
"""
_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Entry:
    """A photo that was looked at."""

    key: Key
    looked: Looked
    compared: dict[tuple[str, int], MatchAnswer] = field(default_factory=dict)
    """By collection and k."""
    bytes: int = 0


class LookCache:
    """Keeps what was found lately. Thread rule: one event loop."""

    def __init__(self, *, most_bytes: int, metrics: Metrics) -> None:
        """Keep up to ``most_bytes``; 0 = nothing. ``follow`` must run, or nothing is kept."""
        self._most = most_bytes
        self._metrics = metrics
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._bytes = 0
        self.following = False
        """Whether erasures are heard of; nothing is kept while they are not."""
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes_used(self) -> int:
        """Bytes of all entries, about."""
        return self._bytes

    @property
    def epoch(self) -> int:
        """Grows whenever everything is dropped: what was looked at before that must not be put any more."""
        return self._epoch

    def get(self, key: Key) -> Entry | None:
        """Return what is known of a photo."""
        entry = self._entries.get(key)
        if entry is None:
            self._metrics.cache_misses.inc()
            return None
        self._entries.move_to_end(key)
        self._metrics.cache_hits.inc()
        return entry

    def put(self, key: Key, looked: Looked, *, epoch: int) -> Entry:
        """Keep what was found on a photo; the ones unused for longest go. ``epoch`` is that of before the photo was looked at."""
        entry = Entry(key=key, looked=looked, bytes=_size(looked))
        if self.following and epoch == self._epoch and entry.bytes <= self._most:
            if (before := self._entries.pop(key, None)) is not None:
                self._bytes -= before.bytes
            self._entries[key] = entry
            self._bytes += entry.bytes
            while self._bytes > self._most:
                self._bytes -= self._entries.popitem(last=False)[1].bytes
            self._metrics.cache_bytes.set(self._bytes)
        return entry

    def drop(self, entry: Entry) -> None:
        """Drop what was found on one photo: it shows somebody who has opted out."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            self._bytes -= entry.bytes
            self._metrics.cache_bytes.set(self._bytes)

    def clear(self) -> None:
        """Drop everything."""
        self._epoch += 1
        self._entries.clear()
        self._bytes = 0
        self._metrics.cache_bytes.set(0)

    async def follow(self, db: Database) -> None:
        """Hear of changes of the gallery until cancelled: candidates go with each, everything with an erasure or a lost connection."""
        while True:
            try:
                async with db.listen(CHANNEL) as notes:
                    known = int((await db.fetch("select generation from gallery_generation"))[0]["generation"])
                    self.following = True
                    async for _ in notes:
                        row = (await db.fetch(_ERASED, known))[0]
                        known = row["newest"] or known
                        if row["erased"] is not None:
                            self.clear()
                        for entry in self._entries.values():
                            entry.compared.clear()
            except UnavailableError as err:
                _log.warning("the result cache is off: erasures can't be followed", reason=str(err))
            finally:
                self.following = False
                self.clear()
            await asyncio.sleep(RETRY_S)


def _size(looked: Looked) -> int:
    faces = len(looked.at.faces)
    return ENTRY_BYTES + faces * (FACE_BYTES + MOST_COMPARED * COMPARED_BYTES) + looked.at.embeddings.vectors.nbytes
