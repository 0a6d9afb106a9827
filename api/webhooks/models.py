"""Bodies and queries of webhooks."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from api.models import Answer, Instant, Name, PageQuery, Patch, Prose, Query
from api.webhooks.wants import Delivery, State, Webhook
from core.events import EventKind

_ID = "6a4e7f0c-3c0e-4b1e-9a59-1d1c6b8f2a10"
_EXAMPLE: dict[str, Any] = {
    "url": "https://hooks.example.com/sightline",
    "description": "Guard desk",
    "kinds": ["alert"],
    "watchlists": ["banned"],
}
Url = Annotated[
    str,
    Field(
        min_length=8,
        max_length=2000,
        pattern=r"^https?://[!-~]+$",
        description="Where to post; public addresses only, unless the settings `outbound` allow more.",
    ),
]
Kinds = Annotated[list[EventKind], Field(min_length=1, max_length=10, description="Of what to hear.")]


def _names(text: str) -> Any:
    return Field(max_length=200, description=f"Only what is about one of these {text}; none = all.")


class WebhookView(Answer):
    """Where what happens is posted."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"examples": [_EXAMPLE | {"webhook_id": _ID, "state": "ok", "enabled": True, "version": 1}]}
    )

    webhook_id: str
    url: str
    description: str
    kinds: list[EventKind]
    cameras: list[str]
    camera_groups: list[str]
    watchlists: list[str]
    collections: list[str]
    every_revision: bool
    enabled: bool
    state: Literal["ok", "failing", "paused", "disabled"] = Field(description="`paused`: it failed often and is left alone for a while.")
    paused_until: datetime | None
    failures: int = Field(description="In a row.")
    last_error: str | None = Field(description="Of the last attempt, if that failed.")
    delivered_at: datetime | None = Field(description="When it last took something.")
    created_at: datetime
    version: int

    @classmethod
    def of(cls, webhook: Webhook) -> "WebhookView":
        """Return a webhook as the API shows it."""
        return cls(**_fields(webhook))


class WebhookCreated(WebhookView):
    """A new webhook, with its secret: it is shown this once."""

    secret: str = Field(description="Signs what is posted; keep it.", examples=["whsec_..."])

    @classmethod
    def with_secret(cls, webhook: Webhook, secret: str) -> "WebhookCreated":
        """Return a webhook with its secret."""
        return cls(**_fields(webhook), secret=secret)


def _fields(webhook: Webhook) -> dict[str, Any]:
    same = (
        "webhook_id",
        "url",
        "description",
        "enabled",
        "failures",
        "last_error",
        "delivered_at",
        "created_at",
        "version",
        "paused_until",
    )
    lists = ("kinds", "cameras", "camera_groups", "watchlists", "collections")
    state = "disabled" if not webhook.enabled else "paused" if webhook.paused_until else "failing" if webhook.failures else "ok"
    values: dict[str, Any] = {name: getattr(webhook, name) for name in same}
    values |= {name: sorted(getattr(webhook.wants, name)) for name in lists}
    return values | {"every_revision": webhook.wants.every_revision, "state": state}


class WebhookList(Answer):
    """All webhooks, oldest first."""

    webhooks: list[WebhookView]


class _WebhookBody(Query):
    description: Prose = ""
    cameras: Annotated[list[Name], _names("cameras")] = Field(default_factory=list)
    camera_groups: Annotated[list[Name], _names("cameras' groups")] = Field(default_factory=list)
    watchlists: Annotated[list[Name], _names("watchlists; sightings are about none, alerts are")] = Field(default_factory=list)
    collections: Annotated[list[Name], _names("collections")] = Field(default_factory=list)
    every_revision: bool = Field(default=False, description="Also when nothing is new but the figures of a face that is still there.")
    enabled: bool = True


class NewWebhook(_WebhookBody):
    """A webhook to make."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    url: Url
    kinds: Kinds


class WebhookPatch(_WebhookBody, Patch):
    """What to change; what is absent stays. A change ends a pause."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"enabled": False}]})

    url: Url = Field(default_factory=str)
    kinds: Kinds = Field(default_factory=list)


class WebhookRemoved(Answer):
    """A webhook that is gone, with its deliveries."""

    webhook_id: str


class SecretView(Answer):
    """A new secret; it is shown this once."""

    secret: str


class DeliveryQuery(PageQuery):
    """Which deliveries."""

    state: Annotated[State | None, Field(description="`skipped`: what it was about is gone; `dead`: it failed for a day.")] = None


class DeliveryView(Answer):
    """An event on its way to a webhook."""

    delivery_id: str
    event_id: int | None = Field(description="Null for a test.")
    kind: str
    at: datetime = Field(description="When it happened.")
    state: State
    attempts: int
    queued_at: datetime
    due_at: datetime | None = Field(description="When it is tried next, or given up by whoever tries it now.")
    finished_at: datetime | None
    status: int | None = Field(description="Of the last response.")
    error: str | None = Field(description="Of the last attempt.")

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryView":
        """Return a delivery as the API shows it."""
        values = {name: getattr(delivery, name) for name in cls.model_fields}
        return cls(**values | {"due_at": delivery.due_at if delivery.state == "waiting" else None})


class DeliveryPage(Answer):
    """Deliveries, newest event first."""

    deliveries: list[DeliveryView]
    next_cursor: str | None


class ReplayRange(Query):
    """Which events to send again."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"since": "2026-05-01T08:00:00Z"}]})

    since: Annotated[Instant, Field(description="What was told at or after it, sent before or not, that the webhook asks for.")]
    until: Annotated[Instant | None, Field(description="What was told before it.")] = None


class ReplayAnswer(Answer):
    """What was queued."""

    queued: int
    complete: bool = Field(description="False: there are more; replay again from `next`.")
    next: datetime | None = None
