"""Erasure everywhere: who takes part in it, and the receipts."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from core.errors import NotFoundError
from core.ports import Database
from enrollment.merging import forget_merges
from enrollment.record import Receipt, Subject

Forget = Callable[[Database, str], Awaitable[int | Mapping[str, int]]]
"""Erases a subject from what one room remembers, inside the given transaction; returns how much, in all or by kind. Idempotent."""

_COLUMNS = 'receipt_id, erased_at, collection, "references", embeddings, sightings, generation, covered, gone_by'
_ADD = f"""
insert into erasure (collection, "references", embeddings, sightings, generation, covered, gone_by)
select $1, $2, $3, $4, $5, $6,
       (select coalesce(jsonb_object_agg(key, to_char(now() + value::interval, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')), '{{}}')
        from jsonb_each_text($7))
returning {_COLUMNS}
"""
_NOTE = """
insert into forgotten_subject (subject_id, receipt_id) values ($1, $2) on conflict (subject_id) do update set receipt_id = $2
"""
_PAGE = f"""
select {_COLUMNS} from erasure
where ($1::text[] is null or collection = any($1)) and ($2::timestamptz is null or (erased_at, receipt_id) < ($2, $3::uuid))
order by erased_at desc, receipt_id desc limit $4
"""
MAX_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Eraser:
    """One room's part in an erasure."""

    what: str
    """Name of what it counts, where it counts one kind."""
    forget: Forget


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasers:
    """All parts of an erasure, in order; a Forget itself."""

    parts: Sequence[Eraser]
    gone_within: Mapping[str, timedelta] = field(default_factory=dict)
    """Copies that are not kept by person, and how long they live at most: no erasure finds them, time does."""

    async def __call__(self, tx: Database, subject_id: str) -> Mapping[str, int]:
        """Erase a subject in a transaction; return how much of what."""
        covered: dict[str, int] = {}
        for part in self.parts:
            _add(covered, part.what, await part.forget(tx, subject_id))
        return covered


async def forget_with_merged(forget: Forget, tx: Database, subject_id: str) -> dict[str, int]:
    """Erase a subject and all who were merged into it: they are one person. Returns how much of what in all."""
    covered: dict[str, int] = {}
    _add(covered, "sightings", await forget(tx, subject_id))  # first: it keeps out merges until the transaction ends
    merged = await forget_merges(tx, subject_id)
    for one in merged:
        _add(covered, "sightings", await forget(tx, one))
    return covered | {"merges": len(merged)}


def _add(covered: dict[str, int], what: str, found: int | Mapping[str, int]) -> None:
    for name, count in {what: found}.items() if isinstance(found, int) else found.items():
        covered[name] = covered.get(name, 0) + count


async def keep_receipt(tx: Database, subject: Subject, covered: Mapping[str, int], forget: Forget, generation: int) -> Receipt:
    """Write the receipt of an erasure, last in its transaction."""
    within = forget.gone_within if isinstance(forget, Erasers) else {}
    rows = await tx.fetch(
        _ADD,
        subject.collection,
        covered.get("references", 0),
        covered.get("embeddings", 0),
        covered.get("sightings", 0),
        generation,
        dict(covered),
        {what: f"{time.total_seconds():.0f} seconds" for what, time in within.items()},
    )
    await tx.execute(_NOTE, uuid.UUID(subject.subject_id), rows[0]["receipt_id"])
    return _receipt(rows[0])


class ErasureStore:
    """Receipts of erasures. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, receipt_id: str, *, collections: frozenset[str] | None = None) -> Receipt:
        """Return a receipt of one of these collections (None = of any). Raises NotFoundError."""
        rows = await self._db.fetch(f"select {_COLUMNS} from erasure where receipt_id = $1", uuid.UUID(receipt_id))
        if not rows or (collections is not None and rows[0]["collection"] not in collections):
            raise NotFoundError(f"receipt {receipt_id[:80]}: there is none")
        return _receipt(rows[0])

    async def of_subject(self, subject_id: str) -> Receipt | None:
        """Return the receipt of a subject that was erased; None when it was not."""
        rows = await self._db.fetch(
            f"select {_COLUMNS} from erasure where receipt_id = (select receipt_id from forgotten_subject where subject_id = $1)",
            uuid.UUID(subject_id),
        )
        return _receipt(rows[0]) if rows else None

    async def query(
        self, *, collections: frozenset[str] | None = None, limit: int, before: tuple[datetime, uuid.UUID] | None = None
    ) -> tuple[list[Receipt], bool]:
        """Return a page of receipts, newest first, and whether there are more.

        Args:
            collections: whose; None = of all.
            limit: receipts a page.
            before: time and id of the last one of the page before.
        """
        limit = max(1, min(limit, MAX_PAGE))
        at, receipt_id = before or (None, None)
        rows = await self._db.fetch(_PAGE, None if collections is None else sorted(collections), at, receipt_id, limit + 1)
        return [_receipt(row) for row in rows[:limit]], len(rows) > limit


def _receipt(row: dict[str, Any]) -> Receipt:
    same = {name: row[name] for name in ("erased_at", "collection", "references", "embeddings", "sightings", "generation", "covered")}
    return Receipt(
        **same,
        receipt_id=str(row["receipt_id"]),
        gone_by={what: datetime.fromisoformat(text) for what, text in row["gone_by"].items()},
    )
