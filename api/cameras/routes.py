"""Routes of this area."""

from api.cameras import handlers, models
from api.route import Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/cameras",
        handler=handlers.list_cameras,
        tag="cameras",
        needs="cameras.read",
        summary="List cameras and how they are",
        answers={200: models.CameraList},
    ),
)
