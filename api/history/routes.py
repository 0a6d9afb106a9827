"""Routes of this area."""

from api.history import handlers, models
from api.route import UPLOAD_S, Route

_WHERE = (
    "All sightings that are kept are compared, strangers included, at the cameras that are granted. Best score first, and by camera. "
    "Scores are exact cosines; the threshold follows from `fpir` and from how many sightings the filters leave."
)

ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/history/search",
        handler=handlers.history_photo,
        tag="history",
        needs="history",
        audit="history.photo",
        summary="Where has the person on this photo been?",
        description=_WHERE,
        form=models.HistoryForm,
        limit_s=UPLOAD_S,
        answers={200: models.HistoryAnswer},
        errors=(422,),
    ),
    Route(
        method="POST",
        path="/v1/history/search/embedding",
        handler=handlers.history_embedding,
        tag="history",
        needs="history",
        audit="history.embedding",
        summary="Where has this embedding been?",
        description=_WHERE,
        body=models.HistoryEmbedding,
        answers={200: models.HistoryAnswer},
        errors=(422,),
    ),
    Route(
        method="POST",
        path="/v1/history/search/sighting",
        handler=handlers.history_sighting,
        tag="history",
        needs="history",
        audit="history.sighting",
        summary="Where else has this sighting's face been?",
        description=_WHERE,
        body=models.HistorySighting,
        answers={200: models.HistoryAnswer},
        errors=(404, 422),
    ),
    Route(
        method="POST",
        path="/v1/history/search/reference",
        handler=handlers.history_reference,
        tag="history",
        needs="history",
        audit="history.reference",
        summary="Where has this enrolled face been?",
        description=_WHERE,
        body=models.HistoryReference,
        answers={200: models.HistoryAnswer},
        errors=(404, 422),
    ),
)
