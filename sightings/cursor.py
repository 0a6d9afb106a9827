"""Where a page of a list ended: an opaque text for clients, a time and an id inside."""

import base64
import binascii
import struct
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.errors import UsageError

_LAYOUT = struct.Struct(">q16s")  # microseconds since 1970, id
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page; the next page starts behind it. Rows that arrive in between neither repeat nor hide others."""

    at: datetime
    """Aware time by which the list is ordered."""
    row_id: uuid.UUID

    def encode(self) -> str:
        """Return the text that clients send back."""
        packed = _LAYOUT.pack((self.at - _EPOCH) // _MICROSECOND, self.row_id.bytes)
        return base64.urlsafe_b64encode(packed).decode("ascii")

    @staticmethod
    def decode(text: str) -> "Cursor":
        """Read a text that :meth:`encode` made.

        Raises:
            UsageError: if it is anything else.
        """
        try:
            micros, row_id = _LAYOUT.unpack(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True))
            cursor = Cursor(_EPOCH + micros * _MICROSECOND, uuid.UUID(bytes=row_id))
        except (UnicodeEncodeError, binascii.Error, struct.error, OverflowError) as err:
            raise UsageError("cursor: not one that this server gave out; start again without it") from err
        if cursor.encode() != text:
            raise UsageError("cursor: not one that this server gave out; start again without it")
        return cursor
