"""Passwords of users: Argon2id (RFC 9106, second recommended option: 64 MiB), in a thread, two at a time."""

import asyncio
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from api.work import Turns

AT_ONCE: Final = 2  # 64 MiB and a core each
WAITING: Final = 16
_NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=4$9K5r+QpEOoGwxE5OlnfbGg$ivwH1MknZoz9YC86EAMKEeGxdzUgKTRD9cL6LgirkJk"
"""Verified when there is no such user, so that the answer takes as long; no password is known that it accepts."""


class Passwords:
    """Hashes and verifies. Thread rule: one event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turns = Turns("logins", at_once=AT_ONCE, most=WAITING)

    async def hash(self, password: str) -> str:
        """Return what is kept of a password. Raises BusyError when too many wait."""
        async with self._turns.turn():
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, encoded: str | None, password: str) -> bool:
        """Tell whether a password is right; without a user (None) it never is, and takes as long to tell. Raises BusyError."""
        async with self._turns.turn():
            return await asyncio.to_thread(self._verify, encoded, password)

    def is_outdated(self, encoded: str) -> bool:
        """Tell whether a password should be hashed again, because this release hashes otherwise."""
        return self._hasher.check_needs_rehash(encoded)

    def _verify(self, encoded: str | None, password: str) -> bool:
        try:
            return self._hasher.verify(encoded or _NOBODY, password) and encoded is not None
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError):  # a damaged row lets nobody in
            return False
