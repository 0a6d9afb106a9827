"""Bodies and queries of cases."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from api.models import Answer, Id, Line, Name, PageQuery, Patch, Prose, Query, Remark
from api.sightings.models import SightingDetail
from sightings.cases import CHANGEABLE, Case, CaseNote, CaseSighting, CaseState
from sightings.record import at

_EXAMPLE: dict[str, Any] = {"title": "Break-in at the north door", "description": "Night of 3 May", "owner": "guard-2", "legal_hold": True}


class CaseView(Answer):
    """Sightings that belong together, with what people noted."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE | {"state": "open", "sightings": 4, "version": 7}]})

    case_id: str
    collection: str = Field(description="Whose sightings it holds.")
    title: str
    description: str
    state: CaseState
    owner: str | None
    legal_hold: bool = Field(description="Its sightings are kept, whatever retention says.")
    created_at: datetime
    created_by: str
    updated_at: datetime
    sightings: int
    notes: int
    version: int

    @classmethod
    def of(cls, case: Case) -> "CaseView":
        """Return a case as the API shows it."""
        same = {name: getattr(case, name) for name in cls.model_fields if hasattr(case, name)}
        return cls(**same, created_at=at(case.created_s), updated_at=at(case.updated_s))


class CaseQuery(PageQuery):
    """Which cases."""

    state: CaseState | None = None
    owner: Line | None = None


class CasePage(Answer):
    """Cases, newest first."""

    cases: list[CaseView]
    next_cursor: str | None


class NewCase(Query):
    """A case to open."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    title: Line
    collection: Name | None = Field(default=None, description="Whose sightings it will hold; the default one if not given.")
    description: Prose = ""
    owner: Line | None = None
    legal_hold: bool = False


class CasePatch(Patch):
    """What to change; what is absent stays, null clears the owner."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"state": "closed"}, {"legal_hold": True}]})

    title: Line = Field(default_factory=str)
    description: Prose = ""
    state: CaseState = "open"
    owner: Line | None = None
    legal_hold: bool = False

    def changes(self) -> dict[str, Any]:
        """Return what is named."""
        return {name: getattr(self, name) for name in CHANGEABLE if name in self.model_fields_set}


class CaseRemoved(Answer):
    """A case is deleted with its notes; its sightings stay where they were."""

    case_id: str


class CaseSightingView(Answer):
    """A sighting of a case."""

    sighting_id: str
    camera: str
    first_at: datetime
    note: str | None
    added_at: datetime
    added_by: str
    sighting: SightingDetail | None = Field(description="Null once retention has erased it; a legal hold keeps it.")

    @classmethod
    def of(cls, entry: CaseSighting) -> "CaseSightingView":
        """Return a sighting of a case as the API shows it."""
        same = {name: getattr(entry, name) for name in ("sighting_id", "camera", "note", "added_by")}
        whole = None if entry.sighting is None else SightingDetail.of(entry.sighting)
        return cls(**same, first_at=at(entry.first_s), added_at=at(entry.added_s), sighting=whole)


class CaseSightingPage(Answer):
    """Sightings in the order in which they were put into the case."""

    sightings: list[CaseSightingView]
    next_cursor: str | None


class NewCaseSightings(Query):
    """Sightings to put into a case, all or none."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"sighting_ids": ["7b0c2f2e-2d8f-5a53-9d7e-0b5d2f1c9a10"], "note": "Tries the handle"}]},
    )

    sighting_ids: Annotated[list[Id], Field(min_length=1, max_length=100)]
    note: Remark | None = Field(default=None, description="To each of them; replaces what was noted before.")


class CaseSightingsAdded(Answer):
    """How many were put into the case."""

    added: int = Field(description="That were not in it before.")
    sightings: int = Field(description="That are in it now.")


class CaseSightingRemoved(Answer):
    """Whether it was taken out."""

    removed: bool = Field(description="False: was not in it.")


class NewCaseNote(Query):
    """Something to note."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"text": "Same jacket as on Monday."}]})

    text: Remark


class CaseNoteView(Answer):
    """Something that somebody noted."""

    note_id: str
    at: datetime
    author: str
    text: str

    @classmethod
    def of(cls, entry: CaseNote) -> "CaseNoteView":
        """Return a note as the API shows it."""
        return cls(note_id=entry.note_id, at=at(entry.at_s), author=entry.author, text=entry.text)


class CaseNotePage(Answer):
    """Notes, oldest first."""

    notes: list[CaseNoteView]
    next_cursor: str | None


class CaseNoteRemoved(Answer):
    """Whether it was deleted."""

    removed: bool
