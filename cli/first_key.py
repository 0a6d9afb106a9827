"""The first start: one key for the administrator, told once, so that nothing has to be open to begin with."""

from collections.abc import Callable

from cli.output import console, emit
from core.ports import Database
from core.settings import Settings

NOTE = "the administrator's key, told this once ('sightline keys create' makes others):"


async def tell_first_key(db: Database, settings: Settings, tell: Callable[[str], None]) -> None:
    """Make the first key where there is none and no token in the settings either, and tell it; of several processes one does."""
    from api.access.key_store import KeyStore

    if settings.api.token is None and (made := await KeyStore(db).create_first()) is not None:
        tell(made.text)


def key_teller(*, as_json: bool) -> Callable[[str], None]:
    """Return how a command tells the key: an event for programs, a line on stderr for people."""

    def for_people(key: str) -> None:
        console().print(f"[bold]{NOTE}[/]\n  {key}", soft_wrap=True)

    def for_programs(key: str) -> None:
        emit({"event": "admin_key", "key": key})

    return for_programs if as_json else for_people
