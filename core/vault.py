"""Encryption at rest of what identifies people: pictures and embeddings. AES-256-GCM under a ring of keys, so that keys can be rotated.

A sealed value is ``02 | key id (4) | nonce (12) | ciphertext | tag (16)``. The first key of the ring seals; any of them opens. A label
(which row it belongs to) is bound to each value: it opens only there, so that values can't be swapped between people.
"""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import SettingsError
from core.types import F32

FORMAT: Final = b"\x02"
FIRST_FORMAT: Final = b"\x01"
"""Of camera URLs once, without the key's id."""
ID_BYTES: Final = 4
NONCE_BYTES: Final = 12
"""Random: safe for 2**32 values under one key (NIST SP 800-38D, 8.3); rotate before that."""
OVERHEAD_BYTES: Final = len(FORMAT) + ID_BYTES + NONCE_BYTES + 16


class Vault:
    """Seals and opens. Immutable; thread rule: any thread."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Take the ring, newest key first, 32 bytes each. Raises SettingsError for anything else."""
        if not keys or any(len(key) != 32 for key in keys):
            raise SettingsError("secret_key: each key has 32 bytes; 'openssl rand -base64 32' makes one")
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.ids: Final = frozenset(self._ciphers)
        """Ids of all keys of the ring."""
        self.newest: Final = key_id(keys[0])
        """Id of the key that seals."""
        self._keys = tuple(keys)

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """Return a key for another purpose (signatures, hashes) from each key of the ring, newest first."""
        return tuple(hmac.digest(key, f"sightline/{purpose}".encode(), "sha256") for key in self._keys)

    def seal(self, data: bytes, *, label: str) -> bytes:
        """Encrypt. The label is not stored: give the same to open."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return b"".join((FORMAT, self.newest, nonce, self._ciphers[self.newest].encrypt(nonce, data, label.encode())))

    def open(self, sealed: bytes, *, label: str) -> bytes:
        """Decrypt what ``seal`` made.

        Raises:
            SettingsError: no key of the ring fits, another label, or damage.
        """
        if sealed[:1] == FIRST_FORMAT:
            return self._open_first(sealed, label)
        cipher = self._ciphers.get(bytes(sealed[1 : 1 + ID_BYTES])) if sealed[:1] == FORMAT else None
        if cipher is None:
            raise SettingsError(f"{label}: is sealed with a key that is not here; add it to old_secret_keys")
        start = 1 + ID_BYTES + NONCE_BYTES
        try:
            return cipher.decrypt(sealed[1 + ID_BYTES : start], sealed[start:], label.encode())
        except (InvalidTag, ValueError) as err:
            raise SettingsError(f"{label}: can't be opened: it is damaged, or belongs to another row") from err

    def is_newest(self, sealed: bytes) -> bool:
        """Tell whether the newest key has sealed a value."""
        return sealed[: 1 + ID_BYTES] == FORMAT + self.newest

    def _open_first(self, sealed: bytes, label: str) -> bytes:
        for cipher in self._ciphers.values():
            try:
                return cipher.decrypt(sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :], label.encode())
            except (InvalidTag, ValueError):
                continue
        raise SettingsError(f"{label}: can't be opened with any key that is here; add the key of that time to old_secret_keys")


def label_of(kind: str, row_id: uuid.UUID | str) -> str:
    """Return the label of a value: what it is, and of which row."""
    return f"{kind} {row_id.hex if isinstance(row_id, uuid.UUID) else uuid.UUID(row_id).hex}"


def seal_embedding(vault: Vault, reference_id: uuid.UUID | str, vector: F32) -> bytes:
    """Return the embedding (D,) float32 of a reference as it is stored: little-endian, sealed. matcher/loading.py opens many at once."""
    return vault.seal(vector.astype("<f4").tobytes(), label=label_of("embedding", reference_id))


def key_id(key: bytes) -> bytes:
    """Return the id of a key: 4 bytes of a hash, of no use for finding the key."""
    return hashlib.sha256(b"sightline/vault/" + key).digest()[:ID_BYTES]
