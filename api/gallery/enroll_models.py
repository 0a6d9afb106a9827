"""Bodies and queries of references, enrolment and set-aside photos."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field

from api.gallery.models import SubjectFields, SubjectView
from api.models import Answer, Box, CursorText, Limit, Line, Name, Prose, Query
from api.sightings.models import SightingView
from enrollment.record import FaceFound, OnDoubt, Outcome, Reason, Reference, Status, Warned
from enrollment.set_aside import SetAside

FACE = r"^([0-9]{1,3}|[0-9]{1,5}(\.[0-9]{1,3})?,[0-9]{1,5}(\.[0-9]{1,3})?)$"
_FACE_TEXT = "Which face of a photo with several: its index in the answer of a first try, or a point `x,y` in its box. For one photo."
_DOUBT_TEXT = (
    "What becomes of a face that is poor, looks like somebody else, or is one of several: `reject`; `set_aside` keeps it for somebody to "
    "decide on; `enroll` enrols it with warnings (of several faces one must still be chosen)."
)


class ReferenceView(Answer):
    """An enrolled face."""

    reference_id: str
    subject_id: str
    source: str = Field(description="File name as given.")
    quality: float
    quality_reasons: list[str]
    created_at: datetime
    models: list[str] = Field(description="Which models have embedded it.")
    picture: str = Field(description="Path of the face's picture.")

    @classmethod
    def of(cls, reference: Reference) -> "ReferenceView":
        """Return a reference as the API shows it."""
        same = {name: getattr(reference, name) for name in cls.model_fields if name != "picture"}
        return cls(**same, picture=picture_path(reference.reference_id))


class ReferenceList(Answer):
    """The enrolled faces of a subject, oldest first."""

    references: list[ReferenceView]


class ReferenceMove(Query):
    """Who a face belongs to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"subject_id": "5a1e4c1e-8f0b-4a53-9b4e-0d7c2f6d3a11"}]})
    subject_id: UUID


class ReferenceErased(Answer):
    """The reference is gone."""

    reference_id: str
    generation: int = Field(description="The gallery with this change in it.")


class EnrollForm(Query):
    """Photos of one subject, and how they are enrolled."""

    photo: list[bytes] = Field(min_length=1, description="One or several photo files.")
    face: Annotated[str | None, Field(pattern=FACE, description=_FACE_TEXT, examples=["0", "412,180.5"])] = None
    on_doubt: OnDoubt = Field(default="reject", description=_DOUBT_TEXT)


class NewEnrollForm(EnrollForm):
    """A person with photos, and how they are enrolled."""

    name: Line
    collection: Name | None = None
    external_id: Line | None = None
    notes: Prose | None = None
    attributes: Annotated[str | None, Field(max_length=16000, description="A JSON object.", examples=['{"desk": 7}'])] = None
    consent: Annotated[str | None, Field(max_length=4000, description="A JSON object, as in POST /v1/subjects.")] = None
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None
    all_or_nothing: bool = Field(default=False, description="Enrol every photo, or nobody.")


class FaceView(Answer):
    """A face of a photo."""

    index: int = Field(description="Give it back as `face` to enrol this one.")
    box: Box = Field(description="x1, y1, x2, y2 in pixels of the upright photo.")
    score: float

    @classmethod
    def of(cls, face: FaceFound) -> "FaceView":
        """Return a face as the API shows it."""
        return cls(index=face.index, box=face.box, score=face.score)


class WarningView(Answer):
    """Somebody else whom the face looks like, or who has the same picture."""

    kind: Literal["duplicate", "lookalike"]
    subject_id: str
    subject: str
    score: float = Field(description="Cosine; 1 for the same picture.")
    reference_id: str
    picture: str = Field(description="Path of the other's picture.")

    @classmethod
    def of(cls, warned: Warned) -> "WarningView":
        """Return a warning as the API shows it."""
        same = {name: getattr(warned, name) for name in cls.model_fields if name != "picture"}
        return cls(**same, picture=picture_path(warned.reference_id))


class PhotoResult(Answer):
    """What became of one photo."""

    file: str
    status: Status
    reason: Reason
    detail: str = Field(description="One line for people: what was found, and how to mend it.")
    quality: float | None
    quality_reasons: list[str] = Field(description="What lowers the quality, worst first.")
    faces: list[FaceView] = Field(description="All faces of the photo, where it was looked at.")
    face_index: int | None = Field(description="The one that counts.")
    warnings: list[WarningView]
    reference_id: str | None
    set_aside_id: str | None
    picture: str | None = Field(description="Path of the picture that was kept.")

    @classmethod
    def of(cls, outcome: Outcome) -> "PhotoResult":
        """Return a photo's outcome as the API shows it."""
        same = {name: getattr(outcome, name) for name in cls.model_fields if name not in ("faces", "warnings", "picture")}
        kept = picture_path(outcome.reference_id) if outcome.reference_id else None
        if outcome.set_aside_id:
            kept = set_aside_path(outcome.set_aside_id)
        faces, warnings = [FaceView.of(face) for face in outcome.faces], [WarningView.of(one) for one in outcome.warnings]
        return cls(**same, faces=faces, warnings=warnings, picture=kept)


class EnrollAnswer(Answer):
    """What became of each photo, in the order in which they were sent."""

    subject_id: str
    enrolled: int
    results: list[PhotoResult]


class NewEnrolled(Answer):
    """The person who was made, and what became of each photo."""

    subject: SubjectView
    enrolled: int
    results: list[PhotoResult]


class SightingEnroll(SubjectFields):
    """Who a sighting shows: a new person (`name` and what is known), or one who is there (`subject_id` alone)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada Lovelace"}]})
    name: Line | None = None
    collection: Name | None = Field(default=None, description="Of a new person; without it, the one that the camera searched.")
    subject_id: UUID | None = None
    on_doubt: Literal["reject", "enroll"] = Field(default="reject", description="Whether to enrol in spite of a likeness to somebody else.")


class SightingEnrolled(Answer):
    """The sighting has a name."""

    subject: SubjectView
    result: PhotoResult
    sighting: SightingView


class SetAsideQuery(Query):
    """Which set-aside photos."""

    collection: Name | None = None
    subject_id: UUID | None = None
    limit: Limit = 50
    cursor: CursorText | None = None


class SetAsideView(Answer):
    """A photo that waits for somebody's decision."""

    set_aside_id: str
    collection: str
    subject_id: str
    subject: str
    file: str
    reason: Reason
    detail: str
    width_px: int = Field(description="Of the picture; boxes are in its pixels.")
    height_px: int
    faces: list[FaceView]
    face_index: int | None = Field(description="The face it is about; null: one must be chosen.")
    warnings: list[WarningView]
    picture: str = Field(description="Path of the photo.")
    created_at: datetime

    @classmethod
    def of(cls, aside: SetAside) -> "SetAsideView":
        """Return a set-aside photo as the API shows it."""
        left_out = ("file", "faces", "warnings", "picture")
        return cls(
            **{name: getattr(aside, name) for name in cls.model_fields if name not in left_out},
            file=aside.source,
            faces=[FaceView.of(face) for face in aside.faces],
            warnings=[WarningView.of(one) for one in aside.warnings],
            picture=set_aside_path(aside.set_aside_id),
        )


class SetAsidePage(Answer):
    """Set-aside photos, newest first."""

    set_aside: list[SetAsideView]
    next_cursor: str | None


class SetAsideAccept(Query):
    """How a set-aside photo is enrolled after all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"face": "1"}]})
    subject_id: UUID | None = Field(default=None, description="Whose it is; without it, whom it was sent for.")
    face: Annotated[str | None, Field(pattern=FACE, description="Another face: its index, or a point `x,y` of the picture.")] = None


class Discarded(Answer):
    """The photo is gone."""

    set_aside_id: str


def picture_path(reference_id: str) -> str:
    """Return the path of a reference's picture."""
    return f"/v1/references/{reference_id}/picture.jpg"


def set_aside_path(set_aside_id: str) -> str:
    """Return the path of a set-aside photo."""
    return f"/v1/set-aside/{set_aside_id}/picture.jpg"
