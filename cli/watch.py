"""Follow live sightings, for commands that show them as they happen."""

import asyncio
from collections.abc import Callable

from api.access.authenticator import ADMINISTRATOR
from api.live.hub import EventHub
from api.live.views import Wanted
from api.sightings.models import SightingView
from core.errors import UnavailableError

POLL_S = 0.5
RESUBSCRIBE_S = 0.25  # a reader that was too slow and was cut off comes back after this


async def follow_sightings(events: EventHub, show: Callable[[SightingView], None]) -> None:
    """Call ``show`` for each sighting that is new or better known, until cancelled; none is left out, over losses of the database too."""
    after: int | None = None
    while True:
        with events.subscribe(Wanted(kinds=frozenset({"sighting"})), ADMINISTRATOR, after=after) as subscription:
            try:
                while not subscription.ended:
                    for shown in await subscription.next(POLL_S):
                        after = shown.event.event_id
                        if isinstance(shown.view, SightingView):
                            show(shown.view)
            except UnavailableError:
                pass  # the platform says so
        await asyncio.sleep(RESUBSCRIBE_S)
