"""Routes of this area."""

from api.gallery.models import ReceiptView
from api.privacy import handlers, models
from api.route import Media, Route

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
        method="POST",
        path="/v1/subjects/{subject_id}/export",
        handler=handlers.export_subject,
        tag="privacy",
        needs="subjects.export",
        audit="subject.export",
        summary="Everything that is kept of a subject, as a zip",
        description=(
            "For the right of access: what is recorded, references and sightings with pictures, episodes, alerts, and who looked. Other "
            "people are blurred. `manifest.json` comes last and has the SHA-256 of each file: without it the download was cut."
        ),
        answers={200: Media("application/zip", "The archive.")},
        limit_s=None,
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
