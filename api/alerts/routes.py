"""Routes of this area."""

from typing import get_args

from api.alerts import handlers, models
from api.route import Route
from sightings.alerts_acts import Act

_SUMMARIES: dict[Act, str] = {
    "acknowledge": "Say that somebody takes notice of an alert",
    "confirm": "Say that it is the right person",
    "reject": "Say that it is the wrong person",
    "close": "Say that nothing is left to do",
    "reopen": "Take an alert up again",
}
_AGAIN = "Doing it again changes nothing. With If-Match it is done only to the version that was seen. 409: not from the alert's state."

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/alerts",
        handler=handlers.list_alerts,
        tag="alerts",
        needs="alerts.read",
        audit="alerts.list",
        summary="List alerts, newest first",
        query=models.AlertQuery,
        answers={200: models.AlertPage},
        errors=(422,),
    ),
    Route(
        method="GET",
        path="/v1/alerts/counts",
        handler=handlers.count_alerts,
        tag="alerts",
        needs="alerts.read",
        summary="Count alerts by state",
        query=models.AlertCountQuery,
        answers={200: models.AlertCounts},
        errors=(422,),
    ),
    Route(
        method="GET",
        path="/v1/alerts/{alert_id}",
        handler=handlers.get_alert,
        tag="alerts",
        needs="alerts.read",
        audit="alert.read",
        summary="Show an alert with its history",
        answers={200: models.AlertDetail},
    ),
    *(
        Route(
            method="POST",
            path=f"/v1/alerts/{{alert_id}}/{act}",
            handler=handlers.act_on_alert(act),
            tag="alerts",
            needs="alerts.act",
            audit=f"alert.{act}",
            summary=_SUMMARIES[act],
            description=_AGAIN,
            answers={200: models.AlertDetail},
            errors=(409, 412),
        )
        for act in get_args(Act)
    ),
    Route(
        method="POST",
        path="/v1/alerts/{alert_id}/assign",
        handler=handlers.assign_alert,
        tag="alerts",
        needs="alerts.act",
        audit="alert.assign",
        summary="Say who takes care of an alert",
        description=_AGAIN,
        body=models.Assignment,
        answers={200: models.AlertDetail},
        errors=(409, 412),
    ),
    Route(
        method="POST",
        path="/v1/alerts/{alert_id}/comments",
        handler=handlers.comment_alert,
        tag="alerts",
        needs="alerts.act",
        audit="alert.comment",
        summary="Add a comment to an alert",
        body=models.NewComment,
        answers={201: models.AlertDetail},
    ),
)
