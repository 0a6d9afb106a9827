"""Routes of this area."""

from api.route import Route
from api.thresholds import handlers, models

_PLACE = "/v1/thresholds/{level}/{key}"

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/thresholds",
        handler=handlers.list_thresholds,
        tag="thresholds",
        needs="thresholds.read",
        audit="thresholds.list",
        summary="List the thresholds that are set",
        query=models.ThresholdQuery,
        answers={200: models.ThresholdPage},
    ),
    Route(
        method="GET",
        path="/v1/thresholds/effective",
        handler=handlers.get_effective_threshold,
        tag="thresholds",
        needs="thresholds.read",
        audit="threshold.explain",
        summary="Which threshold applies, why, and what it means for strangers",
        description=(
            "Looks at every level, strongest first: the request, the subject, the camera, its watchlists (the strictest "
            "applies), the collection, the deployment, the settings. Rates become scores by the model's calibration and the gallery's size."
        ),
        query=models.EffectiveQuery,
        answers={200: models.EffectiveAnswer},
        errors=(404, 422),
    ),
    Route(
        method="GET",
        path=_PLACE,
        handler=handlers.get_threshold,
        tag="thresholds",
        needs="thresholds.read",
        audit="threshold.read",
        summary="Show the threshold of a place, and what it means now",
        answers={200: models.ThresholdAnswer},
        errors=(404,),
    ),
    Route(
        method="PUT",
        path=_PLACE,
        handler=handlers.put_threshold,
        tag="thresholds",
        needs="thresholds.write",
        audit="threshold.set",
        summary="Set the threshold of a place",
        description=(
            "`level` is deployment (key `default`), collection, watchlist, camera (their names) or subject (its id). Every recognizer and "
            "API process follows within a second. `warning` says what it does to strangers where that is careless."
        ),
        body=models.ThresholdBody,
        answers={200: models.ThresholdAnswer},
        errors=(404, 412, 422),
    ),
    Route(
        method="DELETE",
        path=_PLACE,
        handler=handlers.delete_threshold,
        tag="thresholds",
        needs="thresholds.write",
        audit="threshold.delete",
        summary="Set nothing at a place any more",
        description="Answers what was set.",
        answers={200: models.ThresholdView},
        errors=(404, 412),
    ),
)
