"""Routes of this area."""

from api.opt_outs import handlers, models
from api.route import Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="PUT",
        path="/v1/subjects/{subject_id}/opt-out",
        handler=handlers.put_opt_out,
        tag="privacy",
        needs="privacy.write",
        audit="opt_out.set",
        summary="Match somebody, and then drop it",
        description=(
            "From then on, within a second at every camera: no sighting, no alert, no event and no picture of the subject is stored or "
            "told, and searches answer the face with the outcome `opted_out`, without candidates. The references stay: without them nobody "
            "could be recognized as who must be dropped."
        ),
        body=models.NewOptOut,
        answers={200: models.OptOutAnswer},
        errors=(404,),
    ),
    Route(
        method="DELETE",
        path="/v1/subjects/{subject_id}/opt-out",
        handler=handlers.delete_opt_out,
        tag="privacy",
        needs="privacy.write",
        audit="opt_out.delete",
        summary="Tell of somebody again",
        answers={200: models.OptOutGone},
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/v1/privacy/opt-outs",
        handler=handlers.list_opt_outs,
        tag="privacy",
        needs="privacy.write",
        audit="opt_outs.list",
        summary="List who has opted out",
        query=models.OptOutQuery,
        answers={200: models.OptOutPage},
    ),
)
