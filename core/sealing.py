"""Sealing again what another key has sealed, or nobody yet: small transactions, beside everything else that runs, any number of times."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from core.errors import SettingsError
from core.ports import Database
from core.vault import FORMAT, ID_BYTES

CHUNK = 200  # rows a transaction: a few MB of pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedColumn:
    """A bytea column whose values are sealed. Names come from our code, never from a request."""

    table: str
    key: str
    """Primary key, or the columns of it with commas between."""
    column: str
    label: Callable[[dict[str, Any]], str]
    """Makes the label of a row, from the columns of ``key``."""


async def count(db: Database, where: SealedColumn) -> tuple[int, int]:
    """Return how many values the newest key has sealed, and how many it has not."""
    newest = _is_newest(where)
    sql = (
        f"select count(*) filter (where {newest}) as done, count(*) filter (where not {newest}) as waiting "
        f"from {where.table} where {where.column} is not null"
    )
    row = (await db.fetch(sql, FORMAT + db.vault.newest))[0]
    return row["done"], row["waiting"]


async def reseal(db: Database, where: SealedColumn) -> AsyncIterator[int]:
    """Seal values anew under the newest key, and yield how many were, chunk by chunk.

    A value that changes meanwhile is left to whoever changed it. Values from before anything was sealed are taken as they are.

    Raises:
        SettingsError: a value that no key here opens; what came before it is done.
    """
    keys = [name.strip() for name in where.key.split(",")]
    behind = f"({where.key}) > ({', '.join(f'${n}' for n in range(3, 3 + len(keys)))}) and "
    select = (
        f"select {where.key}, {where.column} as sealed from {where.table} where {{behind}}{where.column} is not null "
        f"and not {_is_newest(where)} order by {where.key} limit $2"
    )
    same = " and ".join(f"{name} = ${n}" for n, name in enumerate(keys, 3))
    update = f"update {where.table} set {where.column} = $1 where {where.column} = $2 and {same}"
    last: list[Any] = []
    while rows := await db.fetch(select.format(behind=behind if last else ""), FORMAT + db.vault.newest, CHUNK, *last):
        last = [rows[-1][name] for name in keys]
        async with db.transaction() as tx:
            for row in rows:
                label = where.label(row)
                await tx.execute(
                    update, tx.vault.seal(_open(tx, where, row["sealed"], label), label=label), row["sealed"], *[row[k] for k in keys]
                )
        yield len(rows)


def _is_newest(where: SealedColumn) -> str:
    return f"substring({where.column} from 1 for {1 + ID_BYTES}) = $1"


def _open(db: Database, where: SealedColumn, value: bytes, label: str) -> bytes:
    """Return what a value holds; a picture (JPEG) or an embedding (4 bytes a number) of a release that sealed nothing is what it is.

    A sealed picture never begins like one, and a sealed embedding is never of such a length: what seals adds 33 bytes.
    """
    try:
        return db.vault.open(value, label=label)
    except SettingsError:
        if value[:2] == b"\xff\xd8" or (where.column == "embedding" and value and len(value) % 4 == 0):
            return value
        raise
