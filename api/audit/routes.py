"""Routes of this area."""

from api.audit import handlers, models
from api.route import Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/audit",
        handler=handlers.list_audit,
        tag="audit",
        needs="audit.read",
        audit="audit.list",
        summary="Who did what, to whom, and why; newest first",
        description="`sightline audit verify` proves that no entry was changed, removed or added.",
        query=models.AuditQuery,
        answers={200: models.AuditPage},
    ),
)
