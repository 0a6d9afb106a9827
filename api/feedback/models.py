"""Bodies and queries of feedback."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from api.models import Answer, CursorText, Limit, Query
from api.sightings.models import SightingView
from sightings.feedback import Feedback

Reason = Annotated[
    str,
    Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$", description="In one's own words; without names of bystanders."),
]
Verdict = Literal["wrong_person", "right_person"]


class WrongPerson(Query):
    """Whose name is wrong, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"reason": "her sister"}, {}]})

    subject_id: Annotated[UUID | None, Field(description="Who it is not; by default whom the sighting names.")] = None
    reason: Reason = ""


class Undoing(Query):
    """Which wrong name is taken back."""

    subject_id: Annotated[UUID | None, Field(description="Needed only where several names were said to be wrong.")] = None


class Confirmation(Query):
    """A name is right."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"reason": "showed her badge"}, {}]})

    reason: Reason = ""


class FeedbackView(Answer):
    """What somebody said of a sighting's name."""

    feedback_id: str
    sighting_id: str
    subject_id: str
    subject: str = Field(description="The subject's present name.")
    verdict: Verdict
    reference_id: str | None = Field(description="The reference that fired.")
    camera: str
    collection: str
    score: float | None
    reason: str
    actor: str
    created_at: datetime

    @classmethod
    def of(cls, feedback: Feedback) -> "FeedbackView":
        """Return feedback as the API shows it."""
        return cls(**{name: getattr(feedback, name) for name in cls.model_fields})


class FeedbackAnswer(Answer):
    """What was said, and the sighting as it is now."""

    feedback: FeedbackView
    sighting: SightingView | None = Field(description="Null where it was erased since, by retention for example.")


class FeedbackQuery(Query):
    """Which feedback."""

    subject_id: UUID | None = None
    sighting_id: UUID | None = None
    verdict: Verdict | None = None
    limit: Limit = 50
    cursor: CursorText | None = None


class FeedbackPage(Answer):
    """Feedback, newest first."""

    feedback: list[FeedbackView]
    next_cursor: str | None
