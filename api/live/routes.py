"""Routes of this area."""

from api.live import handlers, models
from api.route import Media, Route

_EVENTS = (
    "`sighting` when a sighting is new or better known, `alert`, `camera`, `job`, `gallery` and `person` when one changes, as far as you "
    "may read these; `reset` when events were missed and lists must be read again. Only what you are granted is sent. Resume behind the id "
    "of the last event: it holds over restarts and on every server. A client that can't follow is disconnected."
)
ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/events",
        handler=handlers.stream_events,
        tag="events",
        needs="sightings.read",
        audit="events.follow",
        summary="Live events (server-sent events)",
        description=_EVENTS,
        query=models.EventQuery,
        limit_s=None,
        answers={200: Media("text/event-stream", "Events until the client leaves.")},
    ),
    Route(
        method="GET",
        path="/v1/events/ws",
        handler=handlers.stream_events_ws,
        tag="events",
        needs="sightings.read",
        audit="events.follow",
        summary="Live events (WebSocket)",
        description=_EVENTS
        + " Messages are JSON: `ready` or `reset` first, then `event` with `event_id`, `kind`, `at`, `news` and `data`. "
        "The client sends nothing.",
        query=models.EventQuery,
        limit_s=None,
        answers={101: Media("application/json", "Messages until the client leaves.")},
        errors=(426,),
    ),
)
