"""Encryption at rest for the few secrets that must be read back, such as camera URLs: AES-256-GCM with a key file.

The key lives beside the data in ``secret.key``, readable by its owner only, or comes from the settings (``secret_key``), as the processes
of a fleet on several machines need the same one. A backup of the database alone does not open the cameras; a backup that is to be
restored needs the key too.
"""

import base64
import binascii
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from core.errors import SettingsError

KEY_FILE: Final = "secret.key"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12  # random; safe for far more secrets under one key than there will ever be cameras (2**32)
FORMAT: Final = b"\x01"


class SecretBox:
    """Encrypts and decrypts small texts. Immutable; thread rule: any thread."""

    def __init__(self, key: bytes, origin: str) -> None:
        if len(key) != KEY_BYTES:
            raise SettingsError(f"{origin}: {len(key)} bytes instead of {KEY_BYTES}; restore the key from a backup")
        self._cipher, self._origin = AESGCM(key), origin

    def seal(self, text: str, *, label: str) -> bytes:
        """Encrypt a text. The label (what the secret belongs to) is bound to it: it opens only under the same label."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return FORMAT + nonce + self._cipher.encrypt(nonce, text.encode(), label.encode())

    def open(self, sealed: bytes, *, label: str) -> str:
        """Decrypt what ``seal`` made.

        Raises:
            SettingsError: another key, another label, or damage.
        """
        nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            if sealed[:1] != FORMAT:
                raise ValueError("unknown format")
            return self._cipher.decrypt(nonce, body, label.encode()).decode()
        except (InvalidTag, ValueError) as err:
            raise SettingsError(
                f"{label}: its secret can't be opened with {self._origin}; restore the key of that time, or enter the secret again"
            ) from err


def open_secret_box(data_dir: Path, key: SecretStr | None = None) -> SecretBox:
    """Take the key of the settings, or read the key file of a data folder, or make it.

    Made whole or not at all, even when several processes start at once or one is killed: the first to link it wins.

    Args:
        data_dir: where the key file is, or will be.
        key: ``settings.secret_key``, base64 of 32 bytes; the key file is not looked at then.

    Raises:
        SettingsError: the key is none, or the key file can't be read or written, or is damaged.
    """
    if key is not None:
        return SecretBox(_decoded(key), "secret_key")
    path = data_dir / KEY_FILE
    try:
        if not path.exists():
            _make_key(path)
        return SecretBox(path.read_bytes(), str(path))
    except OSError as err:
        raise SettingsError(f"{path}: {err.strerror}; the data folder must be writable and the key file readable") from err


def _decoded(key: SecretStr) -> bytes:
    try:
        return base64.b64decode(key.get_secret_value().strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"secret_key: expected base64 of {KEY_BYTES} bytes; 'base64 secret.key' prints that of a key file") from None


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first; its key counts
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
