"""Times on the command line: ``2026-05-01T12:00``, ``12:00`` of today, ``-15m`` before now, ``now``."""

import re
from datetime import UTC, datetime

from core.errors import UsageError

RELATIVE = re.compile(r"-(\d+(?:\.\d+)?)(s|m|h|d)")
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
HELP = "as -15m (s, m, h, d), 12:00 of today, 2026-05-01T12:00 (this machine's zone unless given), or now"


def parse_time(text: str, *, now_s: float, option: str) -> float:
    """Return Unix seconds.

    Raises:
        UsageError: naming the option and what is understood.
    """
    text = text.strip()
    if text == "now":
        return now_s
    if found := RELATIVE.fullmatch(text):
        return now_s - float(found[1]) * UNIT_S[found[2]]
    here = datetime.now(UTC).astimezone().tzinfo
    if CLOCK.fullmatch(text):
        text = f"{datetime.fromtimestamp(now_s, here).date()}T{'0' if text[1] == ':' else ''}{text}"
    try:
        when = datetime.fromisoformat(text)
    except ValueError as err:
        raise UsageError(f"{option} {text!r}: expected a time {HELP}") from err
    return (when if when.tzinfo else when.astimezone()).timestamp()
