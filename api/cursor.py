"""Where a page of a list by name ended: an opaque text for clients."""

import base64
import binascii
from collections.abc import Callable
from typing import TypeVar

from api.errors import UnprocessableError

T = TypeVar("T")


def page_by_name(found: list[T], limit: int, name: Callable[[T], str]) -> tuple[list[T], str | None]:
    """Return the page of rows of which one more than ``limit`` was asked for, and the cursor behind it; None when it is the last."""
    page = found[:limit]
    return page, encode_name(name(page[-1])) if len(found) > limit else None


def encode_name(name: str) -> str:
    """Return the cursor behind a name."""
    return base64.urlsafe_b64encode(name.encode()).decode("ascii")


def decode_name(text: str | None) -> str:
    """Return the name in a cursor that :func:`encode_name` made; "" for the first page, which has none.

    Raises:
        UnprocessableError: if it is anything else.
    """
    if not text:
        return ""
    try:
        name = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as err:
        raise not_ours() from err
    if "\x00" in name or encode_name(name) != text:
        raise not_ours()
    return name


def not_ours() -> UnprocessableError:
    """Return the refusal of a text that is no cursor of this list."""
    return UnprocessableError("cursor: not one that this server gave out; start again without it")
