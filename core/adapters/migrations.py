"""Numbered SQL migrations: ``NNNN_name.sql``, each applied once, in order, in one transaction, recorded with its sha256."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from core.errors import ConflictError
from core.ports import Database

LOCK_KEY = 0x51_67_68_74  # advisory lock of this program: processes that start together migrate one after the other
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_TABLE = """
create table if not exists schema_migration (
    number     integer primary key,
    name       text not null,
    sha256     text not null,
    applied_at timestamptz not null default now()
)"""

_RECORD = "insert into schema_migration (number, name, sha256) values ($1, $2, $3)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One migration file."""

    number: int
    name: str
    sql: str
    sha256: str


def read_migrations(folder: Traversable) -> tuple[Migration, ...]:
    """Read the migrations of a folder, in order; other files are ignored.

    Raises:
        ValueError: when the numbers are not 1, 2, 3, ... (a mistake of the release, not of the user).
    """
    found = []
    for entry in folder.iterdir():
        if match := _NAME.fullmatch(entry.name):
            data = entry.read_bytes()
            found.append(Migration(number=int(match[1]), name=match[2], sql=data.decode(), sha256=hashlib.sha256(data).hexdigest()))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations: numbers {[migration.number for migration in found]} have a gap or a double")
    return tuple(found)


def plan(known: Sequence[Migration], applied: Mapping[int, str]) -> tuple[Migration, ...]:
    """Return the migrations to apply, in order.

    Args:
        known: all migrations of this release.
        applied: number -> sha256 of those the database has.

    Raises:
        ConflictError: when an applied migration was edited since, or the database is newer than this release.
    """
    if newer := sorted(set(applied) - {migration.number for migration in known}):
        raise ConflictError(
            f"database: it has migration {newer[-1]:04d}, this release knows {len(known):04d}; install the release that wrote it"
        )
    for migration in known:
        if migration.number in applied and applied[migration.number] != migration.sha256:
            file = f"{migration.number:04d}_{migration.name}.sql"
            raise ConflictError(
                f"database: migration {file} was edited after it was applied; restore it and put the change into a new file"
            )
    return tuple(migration for migration in known if migration.number not in applied)


async def migrate(db: Database, folder: Traversable) -> tuple[Migration, ...]:
    """Bring the database up to this release and return what was applied. Safe to call from several processes at once.

    Raises:
        ConflictError: see plan. UnavailableError: the database does not answer.
    """
    known = read_migrations(folder)
    done: list[Migration] = []
    while True:
        async with db.transaction() as tx:
            await tx.execute("select pg_advisory_xact_lock($1)", LOCK_KEY)
            await tx.execute(_TABLE)
            applied = {row["number"]: row["sha256"] for row in await tx.fetch("select number, sha256 from schema_migration")}
            pending = plan(known, applied)
            if not pending:
                return tuple(done)
            migration = pending[0]
            await tx.execute(migration.sql)
            await tx.execute(_RECORD, migration.number, migration.name, migration.sha256)
            done.append(migration)
