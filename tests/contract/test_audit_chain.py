"""The audit in a real database: append-only, without gaps, and every kind of tampering is found and named."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from core.audit.chain import AuditKeys, Checkpoint, sign_checkpoint
from core.audit.store import AuditFilter, AuditStore, Verdict
from core.errors import UnavailableError
from core.ports import Database
from tests.builders.audit import draft, tamper, trail

ENTRIES = 9
COLUMNS = "at, actor, actor_name, role, action, targets, purpose, outcome, request_id, client, details, key_id, previous, hash"


@pytest.fixture
async def chain(db: Database) -> AuditStore:
    store = AuditStore(db)
    await store.append([draft(number) for number in range(4)])
    for number in range(4, ENTRIES):
        await store.append([draft(number)])
    return store


def found(verdict: Verdict) -> tuple[int, str, str] | None:
    return verdict.broken and (verdict.broken.seq, verdict.broken.fault, verdict.broken.text)


async def test_a_sound_chain_is_whole(chain: AuditStore) -> None:
    verdict = await chain.verify()
    assert (verdict.entries, verdict.first, verdict.broken) == (ENTRIES, 1, None)
    assert verdict.head == await chain.head()
    assert (await chain.verify(anchor=verdict.head)).broken is None


async def test_an_empty_chain_is_whole(db: Database) -> None:
    verdict = await AuditStore(db).verify()
    assert (verdict.entries, verdict.head, verdict.broken) == (0, (0, bytes(32)), None)


@pytest.mark.parametrize("sql", ["update audit set actor = 'x' where seq = 3", "delete from audit where seq = 3", "truncate audit"])
async def test_the_table_takes_no_change(db: Database, chain: AuditStore, sql: str) -> None:
    with pytest.raises(Exception, match="entries are never changed"):
        await db.execute(sql)
    assert (await chain.verify()).broken is None


CHANGED = "changed, or made without the key"
AWAY = "update audit set seq = seq + 1000 where seq"
BACK = "update audit set seq = seq - 2000 where seq > 2000"
TAMPERINGS: list[tuple[list[str], tuple[int, str, str]]] = [
    (["update audit set outcome = 404 where seq = 5"], (5, "changed", f"entry 5: {CHANGED}")),
    (["update audit set at = at + interval '1 microsecond' where seq = 9"], (9, "changed", f"entry 9: {CHANGED}")),
    (["update audit set details = '{}' where seq = 1"], (1, "changed", f"entry 1: {CHANGED}")),
    (["update audit set hash = sha256('x') where seq = 5"], (5, "changed", f"entry 5: {CHANGED}")),
    (["delete from audit where seq = 5"], (5, "removed", "entry 5: removed")),
    (["delete from audit where seq between 1 and 3"], (1, "removed", "entry 1 to 3: removed")),
    (
        [
            "delete from audit where seq = 5",
            f"{AWAY} > 5",
            "update audit set seq = seq - 1001 where seq > 1000",
            "update audit_head set seq = 8",
        ],
        (5, "removed", "entry 5: removed; those after it were moved into its place"),
    ),
    (
        [f"{AWAY} in (5, 6)", "update audit set seq = 3011 - seq where seq > 1000", BACK],
        (5, "reordered", "entry 5: exchanged with entry 6"),
    ),
    (
        [f"{AWAY} in (3, 7)", "update audit set seq = 3010 - seq where seq > 1000", BACK],
        (3, "reordered", "entry 3: holds what was entry 7"),
    ),
    (
        [
            f"{AWAY} >= 5",
            "update audit set seq = seq - 999 where seq > 1000",
            f"insert into audit select 5, {COLUMNS} from audit where seq = 4",
            "update audit set actor = 'forged' where seq = 5",
            "update audit_head set seq = 10",
        ],
        (5, "inserted", "entry 5: inserted; those after it were moved"),
    ),
    (
        [f"insert into audit select 10, {COLUMNS} from audit where seq = 9"],
        (10, "inserted", "entry 10: added at the end without the key"),
    ),
    (["delete from audit where seq >= 8"], (8, "tail_cut", "entry 8 to 9: removed from the end")),
    (["delete from audit"], (1, "tail_cut", "entry 1 to 9: removed from the end")),
    (["delete from audit_head"], (9, "head", "the head of the chain was removed; entries at the end may be missing")),
    (["update audit_head set seq = 7"], (9, "head", "the head of the chain names entry 7, the newest is 9, or another")),
    (
        ["update audit set key_id = '\\x00000000' where seq = 2"],
        (2, "unknown_key", "entry 2: its key is not here; add it to old_secret_keys, or it is forged"),
    ),
    (
        [
            "insert into audit_checkpoint select true, seq, hash, now(), key_id, hash from audit where seq = 4",
            "delete from audit where seq <= 4",
        ],
        (4, "checkpoint", "the checkpoint at 4 is forged: entries before it were removed"),
    ),
]


@pytest.mark.parametrize(("statements", "expected"), TAMPERINGS)
async def test_tampering_is_found_and_named(db: Database, chain: AuditStore, statements: list[str], expected: tuple[int, str, str]) -> None:
    await tamper(db, *statements)
    assert found(await chain.verify()) == expected


async def test_an_anchor_proves_that_the_end_was_not_cut_even_if_the_head_was_set_back(db: Database, chain: AuditStore) -> None:
    seq, head = await chain.head()
    await tamper(
        db,
        "delete from audit where seq >= 7",
        "update audit_head set (seq, hash) = (select seq, hash from audit order by seq desc limit 1)",
    )
    assert (await chain.verify()).broken is None  # what only an anchor can show
    assert found(await chain.verify(anchor=(seq, head))) == (7, "tail_cut", "entry 7 to 9: removed from the end")
    await chain.append([draft(number) for number in range(7, 12)])
    assert found(await chain.verify(anchor=(seq, head))) == (9, "anchor", "entry 9: is not the one that the anchor names")


@pytest.mark.parametrize("key", [b"", b"\x00" * 32])
async def test_a_checkpoint_under_a_key_that_is_not_here_is_forged(db: Database, chain: AuditStore, key: bytes) -> None:
    fourth = (await chain.query(AuditFilter(), limit=500))[0][-4]
    nobodys = AuditKeys([key])
    forged = sign_checkpoint(Checkpoint(seq=fourth.seq, hash=fourth.hash, pruned_at=datetime.now(UTC)), nobodys)
    await tamper(db, "delete from audit where seq <= 4")
    await db.execute(
        "insert into audit_checkpoint (seq, hash, pruned_at, key_id, mac) values ($1, $2, $3, $4, $5)",
        forged.seq,
        forged.hash,
        forged.pruned_at,
        forged.key_id,
        forged.mac,
    )
    assert found(await chain.verify()) == (4, "checkpoint", "the checkpoint at 4 is forged: entries before it were removed")


async def test_since_begins_in_the_middle(db: Database, chain: AuditStore) -> None:
    rows = await db.fetch("select at from audit where seq = 6")
    verdict = await chain.verify(since=rows[0]["at"])
    assert (verdict.first, verdict.entries, verdict.broken) == (6, 4, None)
    await tamper(db, "update audit set actor = 'x' where seq = 2", "update audit set actor = 'x' where seq = 8")
    assert found(await chain.verify(since=rows[0]["at"])) == (8, "changed", "entry 8: changed, or made without the key")
    assert (await chain.verify(since=datetime.now(UTC) + timedelta(hours=1))).broken is None


async def test_a_pruned_chain_still_verifies_and_continues(db: Database, chain: AuditStore) -> None:
    third = (await chain.query(AuditFilter(), limit=500))[0][-3]
    await tamper(db, "update audit set at = at - interval '40 days' where seq <= 4")
    assert await chain.prune(timedelta(days=30)) == 4
    assert await chain.prune(timedelta(days=30)) == 0
    await chain.append([draft(9)])
    verdict = await chain.verify()
    assert (verdict.first, verdict.entries, verdict.broken) == (5, 6, None)
    assert (await chain.verify(anchor=(third.seq, third.hash))).broken is None  # pruned since: it can't speak against the rest
    await tamper(db, "delete from audit where seq = 5")
    assert found(await chain.verify()) == (5, "removed", "entry 5: removed")


async def test_entries_are_found_by_who_what_whom_and_when(chain: AuditStore) -> None:
    async def seqs(**wanted: object) -> list[int]:
        return [entry.seq for entry in (await chain.query(AuditFilter(**wanted), limit=9))[0]]  # type: ignore[arg-type]

    assert await seqs(actor="key:3") == await seqs(target="subject-3") == [4]
    assert await seqs(action="nothing") == []
    page, before = await chain.query(AuditFilter(action="subject.read"), limit=5)
    rest, end = await chain.query(AuditFilter(), limit=5, before=before)
    assert ([entry.seq for entry in page + rest], end) == ([9, 8, 7, 6, 5, 4, 3, 2, 1], None)
    assert page[0].draft == draft(8)
    assert await seqs(since=page[0].at) == [9]
    assert await seqs(until=rest[-1].at) == []
    assert [entry.seq async for entry in chain.of_target("subject-2")] == [3]


async def test_many_at_once_share_transactions_and_leave_no_gap(db: Database) -> None:
    trails = [trail(db), trail(db)]  # two processes
    await asyncio.gather(*(trails[number % 2].keep(draft(number)) for number in range(400)))
    verdict = await trails[0].store.verify()
    assert (verdict.entries, verdict.broken) == (400, None)
    transactions = sum(
        sample.value
        for one in trails
        for family in one._metrics.registry.collect()
        for sample in family.samples
        if sample.name == "sightline_audit_write_seconds_count"
    )
    assert transactions < 40


async def test_refusals_of_nobody_are_counted_not_kept_one_by_one(db: Database) -> None:
    now = 0.0
    one = trail(db, now_s=lambda: now)
    refused = draft(actor="anonymous", outcome=401, targets=("x",))
    for _ in range(100):
        await one.refuse(refused)
    assert (await one.store.head())[0] == 1
    now = 61.0
    await one.keep(draft())
    entries, _ = await one.store.query(AuditFilter(actor="anonymous"), limit=9)
    assert [(entry.draft.outcome, entry.draft.details) for entry in entries] == [(401, '{"repeated":99}'), (401, '{"faces":1}')]
    for number in range(1000):
        await one.refuse(draft(number, actor="anonymous", client=f"10.0.{number // 250}.{number % 250}", outcome=401))
    await one.close()
    assert (await one.store.head())[0] < 300
    entries, _ = await one.store.query(AuditFilter(action="several"), limit=9)
    assert sum(int(entry.draft.details.partition(":")[2].rstrip("}")) for entry in entries if "repeated" in entry.draft.details) == 743


async def test_repeated_refusals_are_told_after_a_minute_though_nothing_else_is_kept(db: Database) -> None:
    now = 0.0
    one = trail(db, now_s=lambda: now)
    for at_s in (0.0, 1.0, 2.0, 61.0, 62.0):
        now = at_s
        await one.refuse(draft(actor="anonymous", outcome=401))
    entries, _ = await one.store.query(AuditFilter(), limit=9)
    assert [entry.draft.details for entry in reversed(entries)] == ['{"faces":1}', '{"repeated":2}', '{"faces":1}']


async def test_a_failed_write_fails_all_that_waited_for_it_and_the_next_succeeds(db: Database) -> None:
    one = trail(db)
    await one.keep(draft())
    await db.execute("alter table audit add constraint full_up check (seq < 2)")
    try:
        results = await asyncio.gather(*(one.keep(draft(number)) for number in range(3)), return_exceptions=True)
    finally:
        await db.execute("alter table audit drop constraint full_up")
    assert [type(result) for result in results] == [UnavailableError] * 3
    await one.keep(draft())
    assert (await one.store.verify()).entries == 2
