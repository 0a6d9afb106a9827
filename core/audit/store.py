"""The audit in PostgreSQL: all SQL of it."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from core.audit.chain import GENESIS, AuditKeys, Break, Checker, Checkpoint, Draft, Entry, link, sign_checkpoint
from core.ports import Database

MAX_PAGE = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_OFF_S = 0.5  # how far an estimate of the database's clock may be off; then it is asked
OTHERS_WRITE = 16  # batches for which the head is asked first, after somebody else has moved it
PRUNED_AT_A_TIME = 2000  # entries a transaction: writers wait for one such piece at most

_HEAD = "select seq, hash, clock_timestamp() as at from audit_head for update"
_MAKE_HEAD = "insert into audit_head (seq, hash) values (0, $1) on conflict do nothing"
# One statement for any number of entries: a round trip, and one commit for all requests that are under way.
_ADDED = """
insert into audit (seq, at, actor, actor_name, role, action, targets, purpose, outcome, request_id, client, details, key_id, previous, hash)
select seq, $4, actor, actor_name, role, action, targets, purpose, outcome, request_id, client, details,
       decode(key_id, 'hex'), decode(previous, 'hex'), decode(hash, 'hex')
from jsonb_to_recordset($1::jsonb) as t (
    seq bigint, actor text, actor_name text, role text, action text, targets text[], purpose text, outcome integer, request_id text,
    client text, details text, key_id text, previous text, hash text)
"""
_APPEND = f"with moved as (update audit_head set seq = $2, hash = $3) {_ADDED}"
# The same in one round trip, for whom nobody else has written meanwhile; without a row nothing was added.
_APPEND_NEXT = f"""
with moved as (
    update audit_head set seq = $2, hash = $3
    where seq = $5 and hash = $6 and abs(extract(epoch from clock_timestamp() - $4)) < {MOST_OFF_S} returning clock_timestamp() as at),
added as ({_ADDED} where exists (select from moved))
select at from moved
"""
_SELECT = """
select seq, at, actor, actor_name, role, action, targets, purpose, outcome, request_id, client, details, key_id, previous, hash from audit
"""
_SINCE = """where $1::timestamptz is null or seq >= (select seq from audit where at >= $1 order by at, seq limit 1)
order by seq"""
_PAGE = f"""
{_SELECT}
where ($1::text is null or actor = $1) and ($2::text is null or action = $2) and ($3::text is null or targets @> array[$3])
  and ($4::timestamptz is null or at >= $4) and ($5::timestamptz is null or at < $5) and ($6::bigint is null or seq < $6)
order by seq desc limit $7
"""
_CHECKPOINT = """
insert into audit_checkpoint (seq, hash, pruned_at, key_id, mac) values ($1, $2, $3, $4, $5)
on conflict (only_row) do update set seq = $1, hash = $2, pruned_at = $3, key_id = $4, mac = $5
"""
_OLD = """
select seq, hash, clock_timestamp() as pruned_at from (select * from audit order by seq limit $2) oldest
where at < now() - $1::interval order by seq desc limit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verification found."""

    entries: int
    """That were checked and are as they were made, up to the first break."""
    first: int
    """Number of the first entry that was checked; 0 = none."""
    head: tuple[int, bytes]
    """The newest sound entry: keep it elsewhere, as the anchor of a later verification."""
    broken: Break | None


class AuditStore:
    """The chain. Thread rule: one event loop; any number of processes, which take turns by the row of ``audit_head``."""

    def __init__(self, db: Database) -> None:
        self._db, self._keys = db, AuditKeys(db.vault.derived("audit/1"))
        self._head: tuple[int, bytes] | None = None
        self._ahead = timedelta(0)  # the database's clock, over this process's monotonic one
        self._asked = 0

    async def append(self, drafts: Sequence[Draft]) -> tuple[int, bytes]:
        """Add entries in their order, in one transaction, and return number and hash of the last. Durable when it returns.

        Raises:
            UnavailableError: nothing was added, as far as is known.
        """
        before, self._head = self._head, None  # unknown until it is known again: a lost connection does not say what it did
        head = await self._append_next(drafts, before) if before and not self._asked else None
        if head is None:
            head = await self._append_behind(drafts)
            self._asked = OTHERS_WRITE if before and not self._asked else max(0, self._asked - 1)
        self._head = head
        return head

    async def _append_next(self, drafts: Sequence[Draft], before: tuple[int, bytes]) -> tuple[int, bytes] | None:
        """Add entries behind the last ones of this process, in one round trip; None when there are others by now."""
        seq, previous = before
        at = _EPOCH + timedelta(seconds=time.monotonic()) + self._ahead
        entries = link(drafts, seq=seq, previous=previous, at=at, keys=self._keys)
        last = entries[-1]
        rows = await self._db.fetch(_APPEND_NEXT, [_row(entry) for entry in entries], last.seq, last.hash, at, seq, previous)
        if not rows:
            return None
        self._note_time(rows[0]["at"])
        return last.seq, last.hash

    async def _append_behind(self, drafts: Sequence[Draft]) -> tuple[int, bytes]:
        """Add entries behind whatever is there."""
        async with self._db.transaction() as tx:
            rows = await tx.fetch(_HEAD)
            if not rows:
                await tx.execute(_MAKE_HEAD, GENESIS)
                rows = await tx.fetch(_HEAD)
            at = rows[0]["at"]
            entries = link(drafts, seq=rows[0]["seq"], previous=bytes(rows[0]["hash"]), at=at, keys=self._keys)
            self._note_time(at)
            last = entries[-1]
            await tx.execute(_APPEND, [_row(entry) for entry in entries], last.seq, last.hash, at)
        return last.seq, last.hash

    def _note_time(self, at: datetime) -> None:
        self._ahead = at - _EPOCH - timedelta(seconds=time.monotonic())

    async def query(self, wanted: AuditFilter, *, limit: int, before: int | None = None) -> tuple[list[Entry], int | None]:
        """Return a page of entries, newest first, and the number to give as ``before`` for the next (None at the end)."""
        limit = max(1, min(limit, MAX_PAGE))
        rows = await self._db.fetch(_PAGE, wanted.actor, wanted.action, wanted.target, wanted.since, wanted.until, before, limit + 1)
        entries = [_entry(row) for row in rows[:limit]]
        return entries, entries[-1].seq if len(rows) > limit else None

    async def of_target(self, target: str) -> AsyncIterator[Entry]:
        """Yield the entries about an id, oldest first."""
        async for row in self._db.stream(_SELECT + "where targets @> array[$1::text] order by seq", target):
            yield _entry(row)

    async def head(self) -> tuple[int, bytes]:
        """Return number and hash of the newest entry; (0, zeros) when there is none."""
        rows = await self._db.fetch("select seq, hash from audit_head")
        return (rows[0]["seq"], bytes(rows[0]["hash"])) if rows else (0, GENESIS)

    async def verify(self, *, since: datetime | None = None, anchor: tuple[int, bytes] | None = None) -> Verdict:
        """Check the chain, streaming, as it was when this began.

        Args:
            since: check entries from this time on; the one before the first of them is taken on trust.
            anchor: number and hash of an entry, as kept elsewhere: proves that the end was not cut off before it.
        """
        async with self._db.transaction() as tx:
            await tx.execute("set transaction isolation level repeatable read, read only")
            heads = await tx.fetch("select seq, hash from audit_head")
            checkpoints = await tx.fetch("select seq, hash, pruned_at, key_id, mac from audit_checkpoint")
            checkpoint = _checkpoint(checkpoints[0]) if checkpoints else None
            checker = Checker(self._keys, checkpoint, anchor=anchor, partial=since is not None)
            broken = checker.begin()
            if broken is None:
                broken = await _first_break(tx, checker, since)
            if broken is None:
                broken = checker.end((heads[0]["seq"], bytes(heads[0]["hash"])) if heads else None)
        return Verdict(entries=checker.count, first=checker.first, head=(checker.seq, checker.hash), broken=broken)

    async def prune(self, keep: timedelta) -> int:
        """Remove the oldest entries beyond an age, a piece of them, and sign where the chain begins now.

        Returns:
            How many were removed; 0 = none is left that is so old.
        """
        async with self._db.transaction() as tx:
            await tx.fetch("select from audit_head for update")
            rows = await tx.fetch(_OLD, keep, PRUNED_AT_A_TIME)
            if not rows:
                return 0
            signed = sign_checkpoint(_checkpoint(rows[0]), self._keys)
            await tx.execute(_CHECKPOINT, signed.seq, signed.hash, signed.pruned_at, signed.key_id, signed.mac)
            return await tx.execute("delete from audit where seq <= $1", signed.seq)


async def _first_break(tx: Database, checker: Checker, since: datetime | None) -> Break | None:
    async with aclosing(tx.stream(_SELECT + _SINCE, since)) as rows:  # type: ignore[type-var]
        async for row in rows:
            if broken := checker.check(_entry(row)):
                return broken
    return None


def _row(entry: Entry) -> dict[str, Any]:
    draft: dict[str, Any] = msgspec.to_builtins(entry.draft)
    return draft | {
        "seq": entry.seq,
        "key_id": entry.key_id.hex(),
        "previous": entry.previous.hex(),
        "hash": entry.hash.hex(),
    }


def _entry(row: dict[str, Any]) -> Entry:
    same = {name: row[name] for name in Draft.__dataclass_fields__ if name != "targets"}
    return Entry(
        seq=row["seq"],
        at=row["at"],
        draft=Draft(**same, targets=tuple(row["targets"])),
        key_id=bytes(row["key_id"]),
        previous=bytes(row["previous"]),
        hash=bytes(row["hash"]),
    )


def _checkpoint(row: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        seq=row["seq"],
        hash=bytes(row["hash"]),
        pruned_at=row["pruned_at"],
        key_id=bytes(row.get("key_id", b"")),
        mac=bytes(row.get("mac", b"")),
    )
