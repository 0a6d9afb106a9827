"""kill -9 at any moment: the next start is clean and every acknowledged row is there."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import psutil
import pytest

from core.adapters.embedded_postgres import EmbeddedServer
from core.adapters.postgres import open_database
from core.errors import UnavailableError
from core.ports import Database

MIGRATIONS = files("deploy") / "migrations"
ROOT = Path(__file__).parents[2]

WRITER = """
import asyncio, structlog, sys
from importlib.resources import files
from pathlib import Path
from core.adapters.postgres import open_database

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    async with open_database("embedded:", data_dir=Path(sys.argv[1]), migrations=files("deploy") / "migrations") as db:
        await db.execute("create table if not exists row_of (n serial primary key, filler text)")
        while True:
            async with db.transaction() as tx:
                rows = await tx.fetch("insert into row_of (filler) values (repeat('x', 500)) returning n")
            print(rows[0]["n"], flush=True)

asyncio.run(main())
"""
HOLDER = """
import asyncio, structlog, sys
from importlib.resources import files
from pathlib import Path
from core.adapters.postgres import open_database

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    async with open_database("embedded:", data_dir=Path(sys.argv[1]), migrations=files("deploy") / "migrations"):
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def child(script: str, data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> list[str]:
    """Kill -9 and return the lines that were printed, whole ones only."""
    process.kill()
    out, _ = process.communicate()
    return [line for line in out.splitlines(keepends=True) if line.endswith("\n")]


def servers(data_dir: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == "postgres" and process.cwd() == str(data_dir / "postgres"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_gone(data_dir: Path) -> None:
    deadline = time.monotonic() + 10
    while servers(data_dir) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert servers(data_dir) == []


async def rows_in(data_dir: Path) -> set[int]:
    async with open_database("embedded:", data_dir=data_dir, migrations=MIGRATIONS) as db:
        assert len(await db.fetch("select from schema_migration")) >= 3
        if not await db.fetch("select from pg_tables where tablename = 'row_of'"):
            return set()
        return {row["n"] for row in await db.fetch("select n from row_of")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a database in it, to be copied: making one takes a second of CPU."""
    folder = tmp_path_factory.mktemp("made")
    asyncio.run(rows_in(folder))
    return folder


@pytest.fixture
def fresh_dir(tmp_path: Path):
    """A data folder that is not there yet."""
    folder = tmp_path / "data"
    yield folder
    for process in servers(folder):
        process.kill()


@pytest.fixture
def data_dir(made: Path, fresh_dir: Path) -> Path:
    """A data folder with a database in it."""
    shutil.copytree(made, fresh_dir)
    return fresh_dir


async def test_writer_killed_again_and_again_loses_nothing_acknowledged(data_dir: Path) -> None:
    rng = random.Random(1)
    acknowledged: set[int] = set()
    for round_number in range(4):
        writer = child(WRITER, data_dir)
        assert writer.stdout is not None
        acknowledged.add(int(writer.stdout.readline()))
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        acknowledged |= {int(line) for line in kill(writer)}
        if round_number % 2:  # the power fails: the server dies too, each process at its own moment
            for process in servers(data_dir):
                process.kill()
        assert acknowledged <= await rows_in(data_dir)
    assert len(acknowledged) > 20
    wait_until_gone(data_dir)


async def test_first_start_killed_at_any_moment_leaves_a_startable_folder(fresh_dir: Path) -> None:
    for delay_s in (0.3, 0.6, 1.0, 1.8):
        starter = child(HOLDER, fresh_dir)
        await asyncio.sleep(delay_s)
        kill(starter)
    assert await rows_in(fresh_dir) == set()
    assert "postgres.new-" not in " ".join(os.listdir(fresh_dir))


@pytest.mark.parametrize(
    "content",
    [
        "{self}\n{cluster}\n1700000000\n5432\n{cluster}\n\n  123 456\nready   \n",  # another process has the number by now
        "999999\n{cluster}\n1700000000\n5432\n{cluster}\n\n  123 456\nready   \n",
        "{self}\n",
        "garbage",
        "",
    ],
)
async def test_stale_pid_file_does_not_wedge_the_start(data_dir: Path, content: str) -> None:
    (data_dir / "postgres" / "postmaster.pid").write_text(content.format(self=os.getpid(), cluster=data_dir / "postgres"))
    assert await rows_in(data_dir) == set()


async def test_processes_share_one_server_and_the_last_one_out_stops_it(data_dir: Path) -> None:
    first, second = child(HOLDER, data_dir), child(HOLDER, data_dir)
    for process in (first, second):
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
    first.communicate("")
    assert servers(data_dir)
    assert await rows_in(data_dir) == set()
    assert servers(data_dir)
    second.communicate("")
    wait_until_gone(data_dir)


async def test_server_of_a_killed_process_is_taken_over_and_stopped(data_dir: Path) -> None:
    holder = child(HOLDER, data_dir)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    kill(holder)
    assert servers(data_dir)
    await rows_in(data_dir)
    wait_until_gone(data_dir)


async def test_killed_server_is_brought_back_under_a_running_process(data_dir: Path) -> None:
    async def until_answered(db: Database) -> None:
        try:
            await db.fetch("select 1")
        except UnavailableError:
            await asyncio.sleep(0.05)
            await db.fetch("select 1")

    async with open_database("embedded:", data_dir=data_dir, migrations=MIGRATIONS) as db:
        await db.execute("create table kept (n int)")
        await db.execute("insert into kept values (1)")
        for process in servers(data_dir):
            process.send_signal(signal.SIGKILL)
        await until_answered(db)
        assert await db.fetch("select n from kept") == [{"n": 1}]


async def test_long_path_of_the_data_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    assert await rows_in(deep) == set()
    wait_until_gone(deep)


async def test_path_with_blanks_and_quotes(tmp_path: Path) -> None:
    assert await rows_in(tmp_path / 'it\'s my "data", 100 %') == set()


async def test_somebody_elses_folder_is_left_alone(fresh_dir: Path) -> None:
    (fresh_dir / "postgres").mkdir(parents=True)
    (fresh_dir / "postgres" / "diary.txt").write_text("mine")
    with pytest.raises(UnavailableError) as caught:
        await rows_in(fresh_dir)
    assert str(caught.value).endswith("is not empty and holds no database; move it away, or use another data folder")
    assert (fresh_dir / "postgres" / "diary.txt").read_text() == "mine"


async def test_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(UnavailableError, match=r"can't use .*data: File exists; check the folder's owner, rights and free space"):
        await rows_in(tmp_path / "data")


async def test_damaged_database_is_one_clear_error_with_the_servers_words(data_dir: Path) -> None:
    (data_dir / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(UnavailableError, match=r"does not start: .*pg_control"):
        await rows_in(data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_normal_user_starts_a_server_of_its_own_and_root_leaves_it_to_that_user() -> None:
    script = "import os, sys; from pathlib import Path; from core.adapters.embedded_postgres import EmbeddedServer\n"
    script += "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    script += "server = EmbeddedServer(Path(sys.argv[1])); server.start(); server.leave()"
    with tempfile.TemporaryDirectory(prefix="sl-") as name:
        os.chown(name, 65534, -1)
        done = subprocess.run([sys.executable, "-c", script, f"{name}/data"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        cluster = Path(name) / "data" / "postgres"
        assert cluster.stat().st_uid == 65534
        as_root = EmbeddedServer(Path(name) / "data")
        as_root.start()
        as_root.leave()
        assert {path.stat().st_uid for path in cluster.rglob("*")} == {65534}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_normal_user_is_told_whose_database_it_is(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)
    server.start()
    server.leave()
    script = "import os, sys; from pathlib import Path; from core.adapters.server_account import choose_account\n"
    script += "from core.errors import UnavailableError\nos.setuid(65534)\n"
    script += "try: choose_account(Path(sys.argv[1]))\nexcept UnavailableError as err: print(err)"
    folder = data_dir / "postgres"
    for parent in list(folder.parents)[:-2]:
        parent.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    owner = folder.stat().st_uid
    assert done.stdout == f"database: {folder} belongs to user id {owner}, this process runs as 65534; run as that user, or chown it\n", (
        done.stderr
    )
