"""What became of each item, as lines of a table or of JSON."""

import csv
import io
from typing import Any, Final

import msgspec

from api.jobs.record import Item

CSV_COLUMNS: Final = ("file", "subject", "state", "status", "reason", "detail", "quality", "subject_id", "reference_id", "attempts")
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


def line_of(item: Item) -> dict[str, Any]:
    """Return an item as a line of JSON."""
    return {
        "seq": item.seq,
        "file": item.input.get("file", ""),
        "subject": item.subject,
        "state": item.state,
        "reason": item.reason or None,
        "detail": item.detail or None,
        "attempts": item.attempts,
        "result": item.result,
    }


def json_line(item: Item) -> bytes:
    """Return an item as a line of JSON, with its end."""
    return msgspec.json.encode(line_of(item)) + b"\n"


def csv_line(cells: tuple[Any, ...]) -> bytes:
    """Return a line of a CSV. A cell that a spreadsheet would calculate is made text (OWASP, CSV injection)."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([_safe(cell) for cell in cells])
    return out.getvalue().encode()


def csv_item(item: Item) -> bytes:
    """Return an item as a line of a CSV."""
    result = item.result or {}
    status = result.get("status", "")
    return csv_line(
        (
            item.input.get("file", ""),
            item.subject or "",
            item.state,
            status,
            item.reason,
            item.detail,
            result.get("quality"),
            result.get("subject_id") or "",
            result.get("reference_id") or "",
            item.attempts,
        )
    )


def _safe(cell: Any) -> str:
    if cell is None:
        return ""
    text = str(cell)
    return f"'{text}" if isinstance(cell, str) and text.startswith(_FORMULA_STARTS) else text
