"""Queries and messages of live streams."""

from typing import Annotated

from pydantic import Field

from api.models import Answer, Query, Text
from core.events import KINDS

_ANY = "|".join(KINDS)


class EventQuery(Query):
    """Which events, and where a live stream resumes."""

    last_event_id: Annotated[
        str | None, Field(max_length=100, description="Id of the last event that the client has, like the header Last-Event-ID.")
    ] = None
    kinds: Annotated[
        str | None,
        Field(pattern=f"^({_ANY})(,({_ANY})){{0,9}}$", description="Comma-separated; all when absent.", examples=["sighting,alert"]),
    ] = None
    camera: Annotated[Text | None, Field(description="Only what is about this camera.")] = None
    watchlist: Annotated[Text | None, Field(description="Only what is about this watchlist.")] = None
    subject: Annotated[Text | None, Field(description="Only what names this subject, by id or name.")] = None
    news: Annotated[bool, Field(description="Leave out what is no news: newer figures of a face that is still there.")] = False


class ChangeView(Answer):
    """Something changed that the stream does not show itself: read it by its id."""

    id: str
    revision: int = Field(description="Its revision or version.")
    camera: str | None = None
    collection: str | None = None
    watchlist: str | None = None
