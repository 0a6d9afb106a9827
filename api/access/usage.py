"""Who has used the API: counted in memory, written in batches, so that a request waits for no write."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from api.access.key_store import KeyStore
from api.access.record import KeyRecord
from api.access.user_store import SessionStore
from api.errors import TooManyRequestsError
from core.ports import Database

FLUSH_S: Final = 1.0
"""So much traffic may pass beyond a quota on each replica."""

_log = structlog.get_logger(__name__)


class Usage:
    """Counts requests of keys and notes which sessions are used. Thread rule: one event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._requests: Counter[str] = Counter()  # bounded by the keys that were valid within the last second
        self._sessions: set[bytes] = set()

    def count(self, key: KeyRecord) -> None:
        """Count a request of a key. Raises TooManyRequestsError when its quota of the day is used up."""
        if key.requests_per_day is not None and key.used_today + self._requests[key.key_id] >= key.requests_per_day:
            raise TooManyRequestsError(
                f"key '{key.name}' has made its {key.requests_per_day} requests of today; the next day begins at 00:00 UTC",
                retry_s=_until_midnight_s(datetime.now(UTC)),
            )
        self._requests[key.key_id] += 1

    def note_session(self, session_sha256: bytes) -> None:
        """Note that a session is used."""
        self._sessions.add(session_sha256)

    async def flush(self) -> bool:
        """Write what was counted, and tell whether any key was. Counts are kept when the database is away."""
        requests, sessions = Counter(self._requests), list(self._sessions)
        if requests:
            await KeyStore(self._db).count_use(sorted(requests.items()))
            self._requests.subtract(requests)
            self._requests = +self._requests
        if sessions:
            await SessionStore(self._db).touch(sessions)
            self._sessions.difference_update(sessions)
        return bool(requests)


def _until_midnight_s(now: datetime) -> float:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - now).total_seconds()
