"""Routes of this area."""

from functools import partial

from api.route import UPLOAD_S, Route
from api.search import handlers, models

_WHO = "Candidates with the threshold in use and the chance that a stranger reaches it. Filters leave k candidates where so many are there."

_asked = partial(Route, method="POST", tag="search", needs="search", errors=(404, 422))
_photo = partial(_asked, limit_s=UPLOAD_S)
_known_face = partial(_asked, description=_WHO, answers={200: models.ProbeAnswer})

ROUTES: tuple[Route, ...] = (
    _photo(
        path="/v1/search",
        handler=handlers.search,
        audit="search.photo",
        summary="Who is on this photo?",
        description=_WHO,
        form=models.SearchForm,
        answers={200: models.SearchAnswer},
    ),
    _known_face(
        path="/v1/search/embedding",
        handler=handlers.search_embedding,
        audit="search.embedding",
        summary="Who has this embedding?",
        body=models.EmbeddingSearch,
    ),
    _known_face(
        path="/v1/search/sighting",
        handler=handlers.search_sighting,
        audit="search.sighting",
        summary="Who is it that was seen?",
        body=models.SightingSearch,
    ),
    _known_face(
        path="/v1/search/reference",
        handler=handlers.search_reference,
        audit="search.reference",
        summary="Who looks like this enrolled face?",
        body=models.ReferenceSearch,
    ),
    _photo(
        path="/v1/verify",
        handler=handlers.verify,
        audit="search.verify",
        summary="Are these two one person?",
        description="Compares the best faces of two photos, or that of one photo with a subject's references.",
        form=models.VerifyForm,
        answers={200: models.VerifyAnswer},
    ),
)
