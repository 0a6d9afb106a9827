"""Opening the database, without the models' libraries: for commands and processes that know no faces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from core.adapters.postgres import open_database
from core.ports import Database
from core.settings import Settings


@asynccontextmanager
async def open_database_for(settings: Settings) -> AsyncIterator[Database]:
    """Open the database that the settings name, with the schema of this release."""
    migrations = files("deploy") / "migrations"
    async with open_database(settings.database_url, data_dir=settings.data_dir, migrations=migrations) as db:
        yield db
