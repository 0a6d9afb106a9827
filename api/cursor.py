"""Where a page of a list by name ended: an opaque text for clients."""

import base64
import binascii

from core.errors import UsageError


def encode_name(name: str) -> str:
    """Return the cursor behind a name."""
    return base64.urlsafe_b64encode(name.encode()).decode("ascii")


def decode_name(text: str) -> str:
    """Read a cursor that :func:`encode_name` made.

    Raises:
        UsageError: if it is anything else.
    """
    try:
        name = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as err:
        raise UsageError("cursor: not one that this server gave out; start again without it") from err
    if "\x00" in name or encode_name(name) != text:
        raise UsageError("cursor: not one that this server gave out; start again without it")
    return name
