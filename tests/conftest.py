"""Fixtures shared by all tests. Add to it; do not change what others use."""

import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from cli.services.model import Kind
from core.adapters.embedded_postgres import EmbeddedServer
from core.adapters.postgres import open_database
from core.errors import UnavailableError
from core.ports import Database
from tests.builders.servers import SharedServers

FAULTS = Path(__file__).parent / "fault"
SERVERS_OF_FIXTURE = {
    "kafka_url": ["kafka"],
    "amqp_url": ["rabbitmq"],
    "postgres_url": ["postgres"],
    "database_dir": ["embedded postgresql"],
    "stage": ["kafka", "rabbitmq", "postgres"],
}


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
        held = " union all ".join(f"select '{row['tablename']}' as name where exists (select from {row['tablename']})" for row in tables)
        filled = [row["name"] for row in await database.fetch(held)]  # a truncate of all of them takes 50 ms
        drawn = await database.fetch("select sequencename from pg_sequences where schemaname = 'public' and last_value is not null")
        async with database.transaction() as tx:
            await tx.execute("set local session_replication_role = replica")  # the audit refuses to be emptied
            if filled:
                await tx.execute(f"truncate {', '.join(filled)} cascade")
            for row in drawn:
                await tx.execute(f"alter sequence {row['sequencename']} restart")
        await database.execute("insert into collection (name) values ('default')")
        await database.execute("insert into gallery_generation (generation) values (0)")
        yield database


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """The models' one thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="session")
def shared_servers(pytestconfig: pytest.Config) -> Iterator[SharedServers]:
    """Real servers, shared by all pytest processes; a missing one fails the test with its reason."""
    servers = SharedServers()
    yield servers
    servers.leave()
    pytestconfig.stash[FACTS].update(servers.facts)
    if hasattr(pytestconfig, "workeroutput"):
        pytestconfig.workeroutput["servers"] = servers.facts


@pytest.fixture(scope="session")
def kafka_url(shared_servers: SharedServers) -> str:
    """``kafka://host:port`` of a real Kafka. Shared: use topic and group names of your own."""
    return _url(shared_servers, "kafka")


@pytest.fixture(scope="session")
def amqp_url(shared_servers: SharedServers) -> str:
    """``amqp://user:password@host:port/%2F`` of a real RabbitMQ. Shared: use queue and exchange names of your own."""
    return _url(shared_servers, "rabbitmq")


@pytest.fixture(scope="session")
def postgres_url(shared_servers: SharedServers) -> str:
    """``postgresql://...`` of a real PostgreSQL with a network port. Shared: see ``fresh_postgres_url``."""
    return _url(shared_servers, "postgres")


@pytest.fixture
async def fresh_postgres_url(postgres_url: str) -> AsyncIterator[str]:
    """``postgresql://...`` of an empty database for this test alone."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"create database {name}")
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
        await connection.execute(f"drop database if exists {name} with (force)")
    finally:
        await connection.close()


def _url(servers: SharedServers, kind: Kind) -> str:
    try:
        return servers.url(kind)
    except UnavailableError as err:
        pytest.fail(f"no {kind} for this test: {err}", pytrace=False)


FACTS = pytest.StashKey[dict[str, str]]()
"""Server -> what the closing lines say of it."""
LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""Command -> how many of the collected tests it runs and this run does not."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FACTS], config.stash[LEFT_OUT] = {}, {}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect what a worker of pytest-xdist ran against, and what it left out."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[FACTS].update(output.get("servers", {}))
    node.config.stash[LEFT_OUT].update(output.get("left_out", {}))


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count what a marker leaves out."""
    commands = Counter(
        "make test-fault" if item.get_closest_marker("full") else "make test-slow" for item in items if item.get_closest_marker("slow")
    )
    if items:
        config = items[0].config
        config.stash[LEFT_OUT].update(commands)
        if hasattr(config, "workeroutput"):
            config.workeroutput["left_out"] = dict(commands)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tier of faults as slow. Note on each test which servers it uses; the notes travel with its report."""
    for item in items:
        if FAULTS in item.path.parents:
            item.add_marker("slow")
        used = {server for name in getattr(item, "fixturenames", ()) for server in SERVERS_OF_FIXTURE.get(name, ())}
        item.user_properties.extend(("server", server) for server in sorted(used))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print a line for each tier of tests, with the servers it ran against, before pytest's own closing line."""
    tiers: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    servers: dict[str, set[str]] = defaultdict(set)
    told: list[str] = []
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in terminalreporter.stats.get(outcome, ()):
            parts = report.nodeid.split("/")
            tier = parts[1] if len(parts) > 2 else "other"
            tiers[tier][outcome] += 1
            seconds[tier] += getattr(report, "duration", 0.0)  # a file that could not be collected took no time
            servers[tier] |= {value for name, value in getattr(report, "user_properties", ()) if name == "server"}
            told += [value for name, value in getattr(report, "user_properties", ()) if name == "told"]
    facts = config.stash[FACTS]
    for line in told:
        terminalreporter.write_line(f"fault {line}")
    for tier in sorted(tiers):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in tiers[tier].items())
        against = ", ".join(facts.get(server, server) for server in sorted(servers[tier]))
        ran = f" against {against}" if against else ""
        terminalreporter.write_line(f"tier {tier:<9} {counts} ({seconds[tier]:.1f} s in tests){ran}")
    for command, count in sorted(config.stash[LEFT_OUT].items()):
        terminalreporter.write_line(f"left out: {count} tests that {command} runs")
