"""Opening the database, without the models' libraries: for commands and processes that know no faces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from core.adapters.postgres import POOL_SIZE, open_database
from core.ports import Database
from core.secrets import open_vault
from core.settings import Settings

SPARE_CONNECTIONS = 2  # for everything else while a matcher loads


@asynccontextmanager
async def open_database_for(settings: Settings) -> AsyncIterator[Database]:
    """Open the database that the settings name, with the schema of this release."""
    migrations = files("deploy") / "migrations"
    pool_size = max(POOL_SIZE, settings.matcher.load_connections + SPARE_CONNECTIONS)
    vault = open_vault(settings.data_dir, settings.secret_key, settings.old_secret_keys)
    async with open_database(
        settings.database_url, data_dir=settings.data_dir, migrations=migrations, pool_size=pool_size, vault=vault
    ) as db:
        yield db
