"""Tells when a camera's state changes; one process of a fleet does."""

import asyncio

import structlog

from api.live.views import ListsCameras
from core.errors import UnavailableError
from core.events import EventReader, Told, tell_each
from core.ports import Database

EVERY_S = 1.0  # how soon a console hears that a camera went away

_log = structlog.get_logger(__name__)


async def tell_cameras(db: Database, cameras: ListsCameras) -> None:
    """Add an event for each camera whose state changes, until cancelled; over losses of the database."""
    reader = EventReader(db, "camera states")
    before: dict[str, tuple[str, str]] | None = None
    while True:
        try:
            before = await _tell_changes(db, cameras, before) if await reader.take() is not None else None
        except UnavailableError as err:
            _log.warning("states of cameras are not told", reason=str(err))
        await asyncio.sleep(EVERY_S)


async def _tell_changes(db: Database, cameras: ListsCameras, before: dict[str, tuple[str, str]] | None) -> dict[str, tuple[str, str]]:
    now = {view.name: (view.state, view.reason) for view in await cameras()}
    changed = [] if before is None else sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if changed:
        async with db.transaction() as tx:
            await tell_each(tx, "camera", [Told(key=name, revision=0, camera=name) for name in changed])
    return now
