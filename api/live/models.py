"""Queries of live streams."""

from typing import Annotated

from pydantic import Field

from api.models import Query


class EventQuery(Query):
    """Where a live stream resumes."""

    last_event_id: Annotated[str | None, Field(max_length=100, description="Like the header Last-Event-ID.")] = None
