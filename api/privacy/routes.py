"""Routes of this area."""

from api.gallery.models import ReceiptView
from api.privacy import handlers, models
from api.route import Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/privacy/retention",
        handler=handlers.get_retention,
        tag="privacy",
        needs="audit.read",
        summary="How long each class of data is kept, and how old the oldest is",
        answers={200: models.RetentionView},
    ),
    Route(
        method="GET",
        path="/v1/erasures",
        handler=handlers.list_erasures,
        tag="privacy",
        needs="subjects.erase",
        audit="erasures.list",
        summary="List receipts of erasures, newest first",
        description="A receipt says how much of what was erased, and nothing of whom.",
        query=models.ErasureQuery,
        answers={200: models.ErasurePage},
        errors=(422,),
    ),
    Route(
        method="GET",
        path="/v1/erasures/{receipt_id}",
        handler=handlers.get_erasure,
        tag="privacy",
        needs="subjects.erase",
        audit="erasure.read",
        summary="Show the receipt of an erasure",
        answers={200: ReceiptView},
    ),
)
