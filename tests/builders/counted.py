"""A database that counts what it is asked: each statement is a round trip to the server."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from core.ports import Database
from core.vault import Vault


class CountedDatabase:
    """Implements core.ports.Database over another one."""

    def __init__(self, db: Database, counts: list[str] | None = None) -> None:
        self._db = db
        self.asked: list[str] = [] if counts is None else counts
        """Statements, in their order."""

    @property
    def vault(self) -> Vault:
        return self._db.vault

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        self.asked.append(sql)
        return await self._db.fetch(sql, *args)

    async def execute(self, sql: str, *args: Any) -> int:
        self.asked.append(sql)
        return await self._db.execute(sql, *args)

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self.asked.append(sql)
        await self._db.executemany(sql, rows)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Database]:
        async with self._db.transaction() as tx:
            yield CountedDatabase(tx, self.asked)

    def stream(self, sql: str, *args: Any) -> AsyncIterator[dict[str, Any]]:
        return self._db.stream(sql, *args)

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        return self._db.listen(channel)
