"""Where AWS clients put the key: it is the same key as everywhere."""

import re
from typing import Final

_AWS: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")


def access_key_id(header: str | None) -> str | None:
    """Return the access key id of an AWS signature, which is the key; "" for other headers, None without one."""
    if header is None:
        return None
    signed = _AWS.match(header)
    return signed[1] if signed else ""
