"""Routes of this area."""

from api.route import Media, Route
from api.sightings import handlers, models

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/sightings",
        handler=handlers.list_sightings,
        tag="sightings",
        needs="sightings.read",
        audit="sightings.list",
        summary="List sightings, newest first",
        query=models.SightingQuery,
        answers={200: models.SightingPage},
    ),
    Route(
        method="GET",
        path="/v1/sightings/{sighting_id}",
        handler=handlers.get_sighting,
        tag="sightings",
        needs="sightings.read",
        audit="sighting.read",
        summary="Show a sighting with its path and stages",
        answers={200: models.SightingDetail},
    ),
    Route(
        method="GET",
        path="/v1/sightings/{sighting_id}/thumbnail.jpg",
        handler=handlers.get_thumbnail,
        tag="sightings",
        needs="sightings.read",
        audit="sighting.image",
        summary="The picture of a sighting's best shot",
        answers={200: Media("image/jpeg", "The picture.")},
    ),
    Route(
        method="GET",
        path="/v1/episodes",
        handler=handlers.list_episodes,
        tag="sightings",
        needs="sightings.read",
        audit="episodes.list",
        summary="List episodes, newest first",
        query=models.EpisodeQuery,
        answers={200: models.EpisodePage},
    ),
)
