"""Which keys a database is sealed with: a process with other keys must not add rows that nobody else can read."""

from core.errors import SettingsError
from core.ports import Database


async def check_keys(db: Database) -> None:
    """Note that the newest key is in use.

    Raises:
        SettingsError: the database is sealed with keys of which this process has none.
    """
    if not await db.fetch("select to_regclass('vault_key') as there where to_regclass('vault_key') is not null"):
        return  # a schema of tests
    known = {bytes(row["key_id"]) for row in await db.fetch("select key_id from vault_key")}
    if known and known.isdisjoint(db.vault.ids):
        raise SettingsError(
            "secret_key: this database is sealed with another key; give every process the same secret_key, or the same secret.key file"
        )
    if db.vault.newest not in known:
        await db.execute("insert into vault_key (key_id) values ($1) on conflict do nothing", db.vault.newest)
