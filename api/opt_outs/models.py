"""Bodies and queries of opt-outs."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field

from api.models import Answer, Limit, Query
from recognize.rules.store import OptOut


class NewOptOut(Query):
    """Why somebody is dropped, and what becomes of what is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"reason": "asked by letter"}, {}]})

    reason: Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    erase_past: Annotated[
        bool, Field(description="Delete the sightings that are stored of the subject too, with pictures, episodes and alerts.")
    ] = True


class OptOutView(Answer):
    """Somebody who has opted out."""

    subject_id: str
    collection: str
    reason: str
    set_by: str
    set_at: datetime

    @classmethod
    def of(cls, opt_out: OptOut) -> "OptOutView":
        """Return an opt-out as the API shows it."""
        return cls(**{name: getattr(opt_out, name) for name in cls.model_fields})


class OptOutAnswer(OptOutView):
    """The opt-out, and what it erased."""

    sightings_erased: int


class OptOutGone(Answer):
    """The subject is told of again."""

    subject_id: str


class OptOutQuery(Query):
    """Which opt-outs."""

    limit: Limit = 50
    cursor: Annotated[UUID | None, Field(description="`next_cursor` of the page before.")] = None


class OptOutPage(Answer):
    """Opt-outs by subject id."""

    opt_outs: list[OptOutView]
    next_cursor: str | None
