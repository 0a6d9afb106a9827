"""The gallery's database alone, for commands that need no models and no matcher."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from core.adapters.postgres import open_database
from core.settings import Settings
from enrollment.store import GalleryStore
from sightings.store import forget_subject


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[GalleryStore]:
    """Open the database and yield the gallery in it; who is erased there is erased from sightings too.

    Raises:
        UnavailableError, ConflictError: see core.adapters.postgres.open_database.
    """
    async with open_database(settings.database_url, data_dir=settings.data_dir, migrations=files("deploy") / "migrations") as db:
        yield GalleryStore(db, forget=forget_subject)
