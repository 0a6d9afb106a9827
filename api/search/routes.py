"""Routes of this area."""

from api.route import UPLOAD_S, Route
from api.search import handlers, models

ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/search",
        handler=handlers.search,
        tag="search",
        needs="search",
        audit="search.photo",
        summary="Who is on this photo?",
        description="Candidates for each face, with the threshold in use and the chance that a stranger reaches it.",
        form=models.SearchForm,
        limit_s=UPLOAD_S,
        answers={200: models.SearchAnswer},
        errors=(422,),
    ),
)
