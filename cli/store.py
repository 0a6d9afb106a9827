"""The gallery's database alone, for commands that need no models and no matcher."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cli.database import open_database_for
from cli.forgetting import forget_everywhere
from core.settings import Settings
from enrollment.store import GalleryStore


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[GalleryStore]:
    """Open the database and yield the gallery in it; who is erased there is erased from sightings too.

    Raises:
        UnavailableError, ConflictError: see core.adapters.postgres.open_database.
    """
    async with open_database_for(settings) as db:
        yield GalleryStore(db, forget=forget_everywhere(settings))
