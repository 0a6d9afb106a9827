"""What keys and sessions look like, and what is kept of them. Pure.

The secrets are 256 random bits: nobody guesses them, so a plain SHA-256 keeps them safe at rest and costs a request nothing
(a slow password hash protects what people choose, see api.access.passwords).
"""

import hashlib
import re
import secrets
import string
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "sl_"
_KEY: Final = re.compile(r"sl_([A-Za-z0-9]{12})_([A-Za-z0-9_-]{43})")
_ALPHABET: Final = string.ascii_letters + string.digits
ID_CHARACTERS: Final = 12
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key as its holder sends it."""

    public_id: str
    secret_sha256: bytes

    @staticmethod
    def parse(text: str) -> "KeyText | None":
        """Read a key; None when it is none."""
        found = _KEY.fullmatch(text)
        return KeyText(found[1], sha256(found[2])) if found else None


def new_public_id() -> str:
    """Return the part of a new key that may be shown."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARACTERS))


def new_secret() -> str:
    """Return a secret of a key or a session: 43 characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def key_text(public_id: str, secret: str) -> str:
    """Return the whole key, which is shown once."""
    return f"{PREFIX}{public_id}_{secret}"


def sha256(text: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def csrf_token(session: str) -> str:
    """Return the token that a page must send back with each change; it follows from the session's cookie, which no page can read."""
    return hashlib.sha256(b"sightline/csrf/" + session.encode(errors="surrogateescape")).hexdigest()
