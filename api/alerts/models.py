"""Bodies and queries of alerts."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from api.models import Answer, Instant, Line, PageQuery, Query, Remark
from sightings.alerts import AlertEntry, AlertFilter
from sightings.record import AlertState, StoredAlert, at
from sightings.watchlists import Sound

_EXAMPLE: dict[str, Any] = {
    "alert_id": "0f2e0a0a-6c4e-5b7e-9f52-0c1d7f1b6a11",
    "kind": "match",
    "watchlist": "banned",
    "camera": "north-door",
    "subject_id": "7b0c2f2e-2d8f-4a53-9d7e-0b5d2f1c9a10",
    "subject": "Ada Lovelace",
    "score": 0.71,
    "state": "acknowledged",
    "acknowledged_by": "console-1",
    "assigned_to": "guard-2",
    "colour": "#d32f2f",
    "sound": "alarm",
    "version": 2,
}


class AlertView(Answer):
    """Somebody of a watchlist was seen, or a stranger where none may be."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    alert_id: str
    kind: Literal["match", "stranger"]
    watchlist: str
    collection: str | None
    camera: str
    subject_id: str | None = Field(description="Null for strangers, and once the subject was erased.")
    subject: str | None
    score: float | None
    sighting_id: str | None = Field(description="Shows it: the best one when the alert was raised.")
    thumbnail: str | None = Field(description="Path of that sighting's picture.")
    episode_id: str | None = Field(description="Null for strangers, and when the identification was taken back.")
    first_at: datetime
    last_at: datetime
    raised_at: datetime
    state: AlertState = Field(description="`rejected`: it was somebody else.")
    acknowledgement: bool = Field(description="Must be acknowledged before it is closed.")
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    assigned_to: str | None
    colour: str | None = Field(description="Of the watchlist, as the sound; null when that is gone.")
    sound: Sound | None
    version: int = Field(description="Grows with what people do to it; `first_at` and `last_at` follow the episode without.")

    @classmethod
    def of(cls, alert: StoredAlert) -> "AlertView":
        """Return an alert as the API shows it in lists and events."""
        return cls(**_fields(alert))


class AlertEntryView(Answer):
    """Who did what to an alert."""

    at: datetime
    actor: str
    name: str
    action: str = Field(description="acknowledge, confirm, reject, assign, close, reopen, comment; `known after all` by the system.")
    before: AlertState
    after: AlertState
    assigned_to: str | None
    comment: str | None

    @classmethod
    def of(cls, entry: AlertEntry) -> "AlertEntryView":
        """Return an entry as the API shows it."""
        same = {name: getattr(entry, name) for name in cls.model_fields if name != "at"}
        return cls(at=at(entry.at_s), **same)


class AlertDetail(AlertView):
    """An alert with its history, oldest first."""

    history: list[AlertEntryView]

    @classmethod
    def with_history(cls, alert: StoredAlert, history: list[AlertEntry]) -> "AlertDetail":
        """Return an alert as the API shows it alone."""
        return cls(**_fields(alert), history=[AlertEntryView.of(one) for one in history])


def _fields(alert: StoredAlert) -> dict[str, Any]:
    same = {name: getattr(alert, name) for name in AlertView.model_fields if hasattr(alert, name)}
    times = {f"{name}_at": at(getattr(alert, f"{name}_s")) for name in ("first", "last", "raised")}
    acknowledged = None if alert.acknowledged_s is None else at(alert.acknowledged_s)
    picture = f"/v1/sightings/{alert.sighting_id}/thumbnail.jpg" if alert.sighting_id else None
    return {**same, **times, "acknowledged_at": acknowledged, "thumbnail": picture}


class AlertCountQuery(Query):
    """Which alerts."""

    watchlist: Line | None = None
    camera: Line | None = None
    subject: Annotated[Line | None, Field(description="A subject's id, or name.")] = None
    assigned_to: Line | None = None
    since: Annotated[Instant | None, Field(description="Raised at or after it; RFC 3339 with offset, or Unix seconds.")] = None
    until: Annotated[Instant | None, Field(description="Raised before it.")] = None

    def wanted(self, **more: Any) -> AlertFilter:
        """Return the filter of the store. Raises UsageError for times that are none."""
        return AlertFilter(
            watchlist=self.watchlist,
            camera=self.camera,
            subject=self.subject,
            assigned_to=self.assigned_to,
            since_s=None if self.since is None else self.since.timestamp(),
            until_s=None if self.until is None else self.until.timestamp(),
            **more,
        )


class AlertQuery(AlertCountQuery, PageQuery):
    """Which alerts, and how many."""

    state: AlertState | None = None
    unacknowledged: Annotated[bool, Field(description="Only those that somebody must acknowledge and nobody has.")] = False


class AlertPage(Answer):
    """Alerts, newest first."""

    alerts: list[AlertView]
    next_cursor: str | None


class AlertCounts(Answer):
    """How many alerts there are."""

    new: int
    acknowledged: int
    confirmed: int
    rejected: int
    closed: int
    unacknowledged: int = Field(description="Those that somebody must acknowledge and nobody has.")


class Assignment(Query):
    """Who takes care of an alert."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"assignee": "guard-2"}, {"assignee": None}]})

    assignee: Line | None = Field(description="Null: nobody.")


class NewComment(Query):
    """Something to say about an alert."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"text": "It was her sister."}]})

    text: Remark
