"""Fixtures shared by all tests. Add to it; do not change what others use."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest

from core.adapters.embedded_postgres import EmbeddedServer
from core.adapters.postgres import open_database
from core.ports import Database


@pytest.fixture(scope="session")
def database_dir(tmp_path_factory: pytest.TempPathFactory):
    """A data folder whose embedded PostgreSQL runs for the whole test session."""
    data_dir = tmp_path_factory.mktemp("pg")
    server = EmbeddedServer(data_dir)
    server.start()
    yield data_dir
    server.leave()


@pytest.fixture
async def db(database_dir: Path) -> AsyncIterator[Database]:
    """The migrated database of the session, emptied before the test."""
    async with open_database("embedded:", data_dir=database_dir, migrations=files("deploy") / "migrations") as database:
        tables = await database.fetch("select tablename from pg_tables where schemaname = 'public' and tablename <> 'schema_migration'")
        await database.execute("truncate " + ", ".join(row["tablename"] for row in tables) + " restart identity cascade")
        await database.execute("insert into collection (name) values ('default')")
        await database.execute("insert into gallery_generation (generation) values (0)")
        yield database


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each tier of tests, before pytest's own closing line."""
    tiers: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in terminalreporter.stats.get(outcome, ()):
            parts = report.nodeid.split("/")
            tier = parts[1] if len(parts) > 2 else "other"
            tiers[tier][outcome] += 1
            seconds[tier] += report.duration
    for tier in sorted(tiers):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in tiers[tier].items())
        terminalreporter.write_line(f"tier {tier:<9} {counts} ({seconds[tier]:.1f} s in tests)")
