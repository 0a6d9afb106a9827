"""Queries and answers about privacy."""

from datetime import datetime

from pydantic import Field

from api.gallery.models import ReceiptView
from api.models import Answer, CursorText, Limit, Query


class ErasureQuery(Query):
    """Which receipts."""

    limit: Limit = 50
    cursor: CursorText | None = None


class ErasurePage(Answer):
    """Receipts of erasures, newest first."""

    erasures: list[ReceiptView]
    next_cursor: str | None


class DataClassView(Answer):
    """How long one class of data is kept."""

    name: str = Field(examples=["sightings of strangers"])
    keep_days: float | None = Field(description="null = for ever.", examples=[30.0])
    counted_from: str = Field(description="What the age of a row is counted from.", examples=["when it was stored"])
    oldest_at: datetime | None = Field(description="Of the oldest row; null = there is none.")
    overdue: bool = Field(
        description="The oldest row is older than it may be by more than an hour: the retention job does not run, or lags."
    )


class RetentionView(Answer):
    """The retention policy and how it is kept."""

    classes: list[DataClassView]
