"""Routes of this area."""

from api.live import handlers, models
from api.route import Media, Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/events",
        handler=handlers.stream_events,
        tag="events",
        needs="sightings.read",
        audit="events.follow",
        summary="Live events (server-sent events)",
        description=(
            "`sighting` (data: SightingView) when a sighting is new or better known, `camera` (data: CameraView) when a camera changes, "
            "`reset` when events were missed and lists must be read again. Resumes behind Last-Event-ID. A client that falls behind is "
            "disconnected."
        ),
        query=models.EventQuery,
        limit_s=None,
        answers={200: Media("text/event-stream", "Events until the client leaves.")},
    ),
)
