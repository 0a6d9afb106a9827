"""The deployment's keys: of everything that is sealed in the database, such as pictures, embeddings and camera URLs (core/vault.py).

The key lives beside the data in ``secret.key``, readable by its owner only, or comes from the settings (``secret_key``), as the processes
of a fleet on several machines need the same one. A backup of the database alone shows nobody's face; a backup that is to be restored
needs the key too. Keys that were replaced stay readable from ``secret.key.old`` or ``old_secret_keys`` until everything is sealed anew.
"""

import base64
import binascii
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from core.errors import SettingsError
from core.vault import Vault

KEY_FILE: Final = "secret.key"
OLD_KEYS_FILE: Final = "secret.key.old"
"""Former keys, one behind the other, newest first."""
KEY_BYTES: Final = 32


class SecretBox:
    """Encrypts and decrypts small texts. Immutable; thread rule: any thread."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, text: str, *, label: str) -> bytes:
        """Encrypt a text. The label (what the secret belongs to) is bound to it: it opens only under the same label."""
        return self._vault.seal(text.encode(), label=label)

    def open(self, sealed: bytes, *, label: str) -> str:
        """Decrypt what ``seal`` made.

        Raises:
            SettingsError: another key, another label, or damage.
        """
        try:
            return self._vault.open(sealed, label=label).decode()
        except SettingsError as err:
            raise SettingsError(f"{label}: its secret can't be opened; restore the key of that time, or enter the secret again") from err


def open_secret_box(data_dir: Path, key: SecretStr | None = None, old: Sequence[SecretStr] = ()) -> SecretBox:
    """Return what seals texts under the deployment's keys; as :func:`open_vault`."""
    return SecretBox(open_vault(data_dir, key, old))


def open_vault(data_dir: Path, key: SecretStr | None = None, old: Sequence[SecretStr] = ()) -> Vault:
    """Take the keys of the settings, or read the key files of a data folder, or make the first.

    Made whole or not at all, even when several processes start at once or one is killed: the first to link it wins.

    Args:
        data_dir: where the key file is, or will be.
        key: ``settings.secret_key``, base64 of 32 bytes; the key files are not looked at then.
        old: ``settings.old_secret_keys``: keys that may open, but do not seal.

    Raises:
        SettingsError: a key is none, or the key file can't be read or written, or is damaged.
    """
    former = [_decoded(one, "old_secret_keys") for one in old]
    if key is not None:
        return Vault([_decoded(key, "secret_key"), *former])
    path = data_dir / KEY_FILE
    try:
        if not path.exists():
            _make_key(path)
        return Vault([*_keys_in(path), *(_keys_in(data_dir / OLD_KEYS_FILE) if (data_dir / OLD_KEYS_FILE).exists() else ()), *former])
    except OSError as err:
        raise SettingsError(f"{path}: {err.strerror}; the data folder must be writable and the key file readable") from err


def add_key(data_dir: Path) -> None:
    """Put a new key before those of a data folder; a crash at any place leaves a ring that opens everything.

    Raises:
        SettingsError: a key file is damaged.
    """
    present, former = data_dir / KEY_FILE, data_dir / OLD_KEYS_FILE
    ring = [*_keys_in(present), *(_keys_in(former) if former.exists() else ())]
    for path, data in ((former, b"".join(ring)), (present, secrets.token_bytes(KEY_BYTES))):
        with _draft(path, data) as draft:
            draft.replace(path)
        _sync_folder(data_dir)


def _keys_in(path: Path) -> list[bytes]:
    data = path.read_bytes()
    if not data or len(data) % KEY_BYTES:
        raise SettingsError(f"{path}: {len(data)} bytes instead of {KEY_BYTES}; restore the key from a backup")
    return [data[start : start + KEY_BYTES] for start in range(0, len(data), KEY_BYTES)]


def _decoded(key: SecretStr, where: str) -> bytes:
    try:
        decoded = base64.b64decode(key.get_secret_value().strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"{where}: expected base64 of {KEY_BYTES} bytes; 'base64 secret.key' prints that of a key file") from None
    if len(decoded) != KEY_BYTES:
        raise SettingsError(f"{where}: {len(decoded)} bytes instead of {KEY_BYTES}; restore the key from a backup")
    return decoded


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _draft(path, secrets.token_bytes(KEY_BYTES)) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first; its key counts
        _sync_folder(path.parent)


@contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """Write a file of the owner's only beside a path, whole and on the disk, and remove what is left of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
