"""Migrations over a real PostgreSQL, and the plan alone."""

import asyncio
from pathlib import Path

import pytest

from core.adapters.migrations import Migration, migrate, plan, read_migrations
from core.adapters.postgres import open_database
from core.errors import ConflictError
from core.ports import Database


@pytest.fixture
async def blank(database_dir: Path, db: Database):
    """A database of its own on the session's server."""
    await db.execute("create database blank")
    url = f"postgresql://sightline@/blank?host={database_dir / 'postgres'}"
    yield url
    await db.execute("drop database blank with (force)")


def folder(root: Path, **files: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, sql in files.items():
        (root / f"{name.removeprefix('m')}.sql").write_text(sql)
    return root


async def test_each_is_applied_once(tmp_path: Path, blank: str) -> None:
    first = folder(tmp_path / "m", m0001_a="create table a (n int); insert into a values (1);")
    async with open_database(blank, data_dir=tmp_path, migrations=first) as db:
        assert await migrate(db, first) == ()
        folder(first, m0002_b="insert into a values (2);")
        assert [m.number for m in await migrate(db, first)] == [2]
        assert await migrate(db, first) == ()
        assert [row["n"] for row in await db.fetch("select n from a order by n")] == [1, 2]


async def test_a_failing_one_leaves_nothing_of_itself_and_all_before_it(tmp_path: Path, blank: str) -> None:
    good = folder(tmp_path / "m", m0001_a="create table a (n int);")
    async with open_database(blank, data_dir=tmp_path, migrations=good) as db:
        folder(good, m0002_b="insert into a values (1); insert into a values ('x');")
        with pytest.raises(Exception, match="invalid input syntax"):
            await migrate(db, good)
        assert await db.fetch("select * from a") == []
        assert await db.fetch("select number from schema_migration") == [{"number": 1}]


async def test_processes_that_start_together_apply_each_once(tmp_path: Path, blank: str) -> None:
    names = {f"m{n:04d}_x": f"create table t{n} (n int); select pg_sleep(0.02);" for n in range(1, 5)}
    many = folder(tmp_path / "m", **names)
    empty = folder(tmp_path / "none")
    async with open_database(blank, data_dir=tmp_path, migrations=empty) as db:
        applied = await asyncio.gather(*(migrate(db, many) for _ in range(4)))
    assert sorted(m.number for done in applied for m in done) == [1, 2, 3, 4]


async def test_an_edited_one_is_an_error_in_one_line(tmp_path: Path, blank: str) -> None:
    files = folder(tmp_path / "m", m0001_a="create table a (n int);")
    async with open_database(blank, data_dir=tmp_path, migrations=files):
        pass
    folder(files, m0001_a="create table a (n bigint);")
    with pytest.raises(ConflictError) as caught:
        async with open_database(blank, data_dir=tmp_path, migrations=files):
            pass
    assert str(caught.value) == (
        "database: migration 0001_a.sql was edited after it was applied; restore it and put the change into a new file"
    )


def migration(number: int, sha256: str = "s") -> Migration:
    return Migration(number=number, name="x", sql="", sha256=sha256)


def test_a_newer_database_is_an_error_in_one_line() -> None:
    with pytest.raises(ConflictError) as caught:
        plan([migration(1)], {1: "s", 2: "s", 3: "s"})
    assert str(caught.value) == "database: it has migration 0003, this release knows 0001; install the release that wrote it"


def test_the_plan_is_what_is_missing_in_order() -> None:
    assert [m.number for m in plan([migration(1), migration(2), migration(3)], {1: "s"})] == [2, 3]


@pytest.mark.parametrize("names", [["m0001_a", "m0003_b"], ["m0002_a"], ["m0001_a", "m0001_b"]])
def test_gaps_and_doubles_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="have a gap or a double"):
        read_migrations(folder(tmp_path, **dict.fromkeys(names, "")))


def test_other_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "0001.sql").write_text("x")
    assert read_migrations(folder(tmp_path, m0001_a="select 1;"))[0].name == "a"
