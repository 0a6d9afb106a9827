"""Keeps a process's rulebook up to date: read when it starts, at each NOTIFY, and again when the connection was lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from core.errors import SightlineError, UnavailableError
from core.ports import Database
from core.runner import first_error
from recognize.rules.rules import Rulebook
from recognize.rules.store import CHANNEL, RulesReader

RETRY_S = 0.5
SETTLE_S = 0.05  # an import that changes a watchlist a thousand times a second is read twenty times a second

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_rulebook(db: Database) -> AsyncIterator[Rulebook]:
    """Read the rules and follow them inside the block. While the database is away, those that were read last stay in force.

    Raises:
        UnavailableError: they can't be read at the start: nobody is recognized by rules that are not known.
        SettingsError: an exemplar can't be decrypted.
    """
    reader, book = RulesReader(db), Rulebook()
    book.now = await reader.read()
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_follow(db, reader, book), name="rules")
            yield book
            task.cancel()
    except BaseExceptionGroup as failed:
        raise first_error(failed) from failed


async def _follow(db: Database, reader: RulesReader, book: Rulebook) -> None:
    while True:
        try:
            async with db.listen(CHANNEL) as changes, asyncio.TaskGroup() as group:
                news = asyncio.Event()
                news.set()  # of what changed while nobody listened
                reading = group.create_task(_read(reader, book, news), name="rules.read")
                async for _ in changes:
                    news.set()
                reading.cancel()
        except* UnavailableError as err:
            _log.warning("rules can't be followed, trying again", reason=str(first_error(err)))
        except* SightlineError as err:
            _log.error("rules can't be read, the last ones stay in force", reason=str(first_error(err)))
        await asyncio.sleep(RETRY_S)


async def _read(reader: RulesReader, book: Rulebook, news: asyncio.Event) -> None:
    while True:
        await news.wait()
        news.clear()
        book.now = await reader.read()
        await asyncio.sleep(SETTLE_S)
