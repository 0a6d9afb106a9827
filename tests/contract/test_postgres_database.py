"""core.ports.Database over a real PostgreSQL."""

import asyncio
import uuid
from contextlib import aclosing
from importlib.resources import files
from pathlib import Path

import pytest

from core.adapters.postgres import open_database
from core.errors import ConflictError, SettingsError, UnavailableError, UsageError
from core.ports import Database

MIGRATIONS = files("deploy") / "migrations"


@pytest.fixture
async def table(db: Database) -> Database:
    await db.execute("create table thing (id integer primary key, name text, data jsonb)")
    return db


@pytest.fixture(autouse=True)
async def drop(db: Database):
    yield
    await db.execute("drop table if exists thing")


async def test_rows_come_as_dicts_with_json_and_uuid_values(table: Database) -> None:
    key = uuid.uuid4()
    rows = await table.fetch("select $1::jsonb as data, $2::uuid as key, $3::uuid as text_key", {"a": [1, None]}, key, str(key))
    assert rows == [{"data": {"a": [1, None]}, "key": key, "text_key": key}]


async def test_execute_counts_rows(table: Database) -> None:
    await table.executemany("insert into thing (id, name) values ($1, $2)", [(i, str(i)) for i in range(5)])
    assert await table.execute("update thing set name = 'x' where id > $1", 2) == 2
    assert await table.execute("create index on thing (name)") == 0


async def test_executemany_is_all_or_nothing(table: Database) -> None:
    with pytest.raises(ConflictError):
        await table.executemany("insert into thing (id) values ($1)", [(1,), (2,), (1,)])
    assert await table.fetch("select * from thing") == []


async def test_unique_violation_says_what_is_taken(table: Database) -> None:
    await table.execute("insert into thing (id) values (7)")
    with pytest.raises(ConflictError) as caught:
        await table.execute("insert into thing (id) values (7)")
    assert str(caught.value) == "database: Key (id)=(7) already exists."


@pytest.mark.parametrize(
    ("sql", "value"), [("insert into thing (id) values ($1)", "seven"), ("insert into thing values (1, $1)", "a\x00b")]
)
async def test_value_that_does_not_fit_is_a_usage_error(table: Database, sql: str, value: str) -> None:
    with pytest.raises(UsageError, match=r"^database: a value can't be stored: "):
        await table.execute(sql, value)


async def test_transaction_commits(table: Database) -> None:
    async with table.transaction() as tx:
        await tx.execute("insert into thing (id) values (1)")
        assert await table.fetch("select * from thing") == []
    assert len(await table.fetch("select * from thing")) == 1


async def insert_then_fail(db: Database, sql: str) -> None:
    async with db.transaction() as tx:
        await tx.execute(sql)
        raise LookupError("mine")


async def test_transaction_rolls_back_on_an_error_and_lets_it_through(table: Database) -> None:
    with pytest.raises(LookupError, match="mine"):
        await insert_then_fail(table, "insert into thing (id) values (1)")
    assert await table.fetch("select * from thing") == []


async def test_inner_transaction_is_a_savepoint(table: Database) -> None:
    async with table.transaction() as tx:
        await tx.execute("insert into thing (id) values (1)")
        with pytest.raises(LookupError):
            await insert_then_fail(tx, "insert into thing (id) values (2)")
        await tx.execute("insert into thing (id) values (3)")
    assert [row["id"] for row in await table.fetch("select id from thing order by id")] == [1, 3]


async def test_cancelled_transaction_rolls_back_and_gives_its_connection_back(table: Database) -> None:
    async def work() -> None:
        async with table.transaction() as tx:
            await tx.execute("insert into thing (id) values (1)")
            await tx.execute("select pg_sleep(60)")

    for _ in range(12):  # twice the pool
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work(), 0.05)
    assert await table.fetch("select * from thing") == []


async def test_stream_sees_one_snapshot_of_many_rows(table: Database) -> None:
    await table.execute("insert into thing (id) select generate_series(1, 1700)")
    seen = []
    async with aclosing(table.stream("select id from thing order by id")) as rows:
        async for row in rows:
            seen.append(row["id"])
            if len(seen) == 1:
                await table.execute("delete from thing")
    assert seen == list(range(1, 1701))


async def test_streams_left_half_way_do_not_use_up_the_pool(table: Database) -> None:
    for _ in range(12):
        async with aclosing(table.stream("select generate_series(1, 100000) as n")) as rows:
            async for row in rows:
                assert row == {"n": 1}
                break
    assert await table.fetch("select 1 as one") == [{"one": 1}]


async def test_stream_inside_a_transaction_sees_its_changes(table: Database) -> None:
    async with table.transaction() as tx:
        await tx.execute("insert into thing (id) values (1)")
        assert [row["id"] async for row in tx.stream("select id from thing")] == [1]


async def test_listen_receives_what_was_committed_and_in_order(table: Database) -> None:
    async with table.listen("gallery") as payloads:
        with pytest.raises(LookupError):
            await insert_then_fail(table, "select pg_notify('gallery', 'rolled back')")
        for number in range(3):
            await table.execute("select pg_notify('gallery', $1)", str(number))
        assert [await anext(payloads) for _ in range(3)] == ["0", "1", "2"]


async def test_listen_ends_when_the_connection_is_lost(table: Database) -> None:
    async with table.listen("gallery") as payloads:
        await table.execute("select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'")
        assert [payload async for payload in payloads] == []


async def test_listen_ends_rather_than_lose_a_payload_silently(table: Database) -> None:
    async with table.listen("gallery") as payloads:
        await table.execute("select pg_notify('gallery', n::text) from generate_series(1, 3000) n")
        await table.execute("select 1")
        received = [payload async for payload in payloads]
    assert received == [str(n + 1) for n in range(len(received))][: len(received)]
    assert len(received) < 3000


async def test_a_killed_connection_costs_one_call_at_most(table: Database) -> None:
    await table.execute("select 1")
    with pytest.raises(UnavailableError):
        await table.execute("select pg_terminate_backend(pg_backend_pid())")
    assert await table.fetch("select 1 as one") == [{"one": 1}]


async def test_more_callers_than_connections_wait_their_turn(table: Database) -> None:
    answers = await asyncio.gather(*(table.fetch("select pg_sleep(0.01), $1::int as n", n) for n in range(40)))
    assert [rows[0]["n"] for rows in answers] == list(range(40))


@pytest.mark.parametrize("url", ["", "mysql://host/db", "sqlite:///x", "embedded"])
async def test_unknown_url_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="use embedded: or postgresql://user:password@host/name"):
        async with open_database(url, data_dir=tmp_path, migrations=MIGRATIONS):
            pass


async def test_absent_server_is_unavailable_and_the_password_stays_secret(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        async with open_database("postgresql://me:secret@127.0.0.1:9/db", data_dir=tmp_path, migrations=MIGRATIONS):
            pass
    assert "is the server up?" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_url_of_a_server_works_like_the_embedded_one(database_dir: Path) -> None:
    url = f"postgresql://sightline@/postgres?host={database_dir / 'postgres'}"
    async with open_database(url, data_dir=database_dir, migrations=MIGRATIONS) as database:
        assert await database.fetch("select number from schema_migration order by number limit 1") == [{"number": 1}]
