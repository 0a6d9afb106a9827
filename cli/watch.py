"""Follow live sightings, for commands that show them as they happen."""

import asyncio
from collections.abc import Callable

from api.live.hub import EventHub
from api.sightings.models import SightingView

POLL_S = 0.5
RESUBSCRIBE_S = 0.25  # a reader that was too slow and was cut off comes back after this


async def follow_sightings(events: EventHub, show: Callable[[SightingView], None]) -> None:
    """Call ``show`` for each sighting that is new or better known, until cancelled."""
    while True:
        with events.subscribe(None) as (subscription, _):
            while not subscription.ended:
                event = await subscription.next(POLL_S)
                if event is not None and event.kind == "sighting":
                    show(SightingView.model_validate_json(event.data))
        await asyncio.sleep(RESUBSCRIBE_S)
