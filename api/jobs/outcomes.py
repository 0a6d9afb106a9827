"""What became of items, as it is recorded. Pure."""

from typing import Final

import msgspec

from api.jobs.record import Done, Item
from enrollment.record import Outcome

UNKEEPABLE: Final = "has a name that can't be kept; rename it"
RETRY_S: Final = 2.0  # first wait after an object could not be read; doubles with each try


def plain(text: str) -> str:
    """Return a text without characters that PostgreSQL refuses."""
    return text.replace("\x00", "?").encode("utf-8", "replace").decode()


def done_of(seq: int, outcome: Outcome, status: str) -> Done:
    """Return what became of a row as it is recorded."""
    result = {
        "status": status,
        "quality": outcome.quality,
        "subject_id": outcome.subject_id,
        "reference_id": outcome.reference_id,
        "generation": outcome.generation,
        "set_aside_id": outcome.set_aside_id,
        "warnings": [msgspec.to_builtins(one) for one in outcome.warnings],
    }
    named = {one.subject_id for one in outcome.warnings if one.subject_id} | ({outcome.subject_id} if outcome.subject_id else set())
    return Done(
        seq=seq,
        state="rejected" if outcome.status == "rejected" else "done",
        reason=outcome.reason,
        detail=plain(outcome.detail),
        result=result,
        subject_ids=tuple(named),
    )


def put_off(item: Item, reason: str, *, most: int) -> Done:
    """Return an item that is tried again after a growing wait, or set apart after ``most`` tries."""
    if item.attempts >= most:
        return Done(seq=item.seq, state="set_apart", reason="unavailable", detail=plain(reason)[:500])
    return Done(seq=item.seq, state="waiting", reason="unavailable", detail=plain(reason)[:500], delay_s=RETRY_S * 2 ** (item.attempts - 1))
