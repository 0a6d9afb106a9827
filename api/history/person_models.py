"""Bodies of unknown persons."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from api.models import Answer, Line, Name, PageQuery, Query
from api.sightings.models import SightingView
from sightings.people_store import Person
from sightings.record import at

SubjectName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]


class PersonView(Answer):
    """Somebody whose name nobody knows, or who was named since."""

    person_id: str
    first_at: datetime
    last_at: datetime
    sightings: int
    best_sighting_id: str
    thumbnail: str = Field(description="Path of the best picture; 404 where none is kept.")
    label: str | None = Field(description="What people call somebody whose name they do not know.")
    subject_id: str | None = Field(description="Once named.")
    version: int

    @classmethod
    def of(cls, person: Person) -> "PersonView":
        """Return a person as the API shows it."""
        same = {name: getattr(person, name) for name in ("person_id", "sightings", "best_sighting_id", "label", "subject_id", "version")}
        thumbnail = f"/v1/sightings/{person.best_sighting_id}/thumbnail.jpg"
        return cls(**same, first_at=at(person.first_s), last_at=at(person.last_s), thumbnail=thumbnail)


class PersonQuery(PageQuery):
    """Which persons."""

    order: Annotated[Literal["newest", "most"], Field(description="Last seen first, or seen most often first.")] = "newest"
    min_sightings: Annotated[int, Field(ge=1, le=1_000_000, description="2 leaves out who never came back.")] = 2
    named: Annotated[bool | None, Field(description="Only those with a name, or without.")] = None


class PersonPage(Answer):
    """Unknown persons."""

    persons: list[PersonView]
    next_cursor: str | None


class PersonDetail(Answer):
    """A person with its sightings, newest first."""

    person: PersonView
    sightings: list[SightingView]
    next_cursor: str | None


class PersonPatch(Query):
    """What people call a person; null takes it away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "courier with the red helmet"}]})
    label: Line | None


class NamePerson(Query):
    """Who it is: a new subject's name, or a subject that is there."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Grace Hopper", "collection": "default"}]})
    name: Annotated[SubjectName | None, Field(description="Of a subject that is made; give this or subject_id.")] = None
    subject_id: uuid.UUID | None = None
    collection: Annotated[Name | None, Field(description="Of the new subject; by default the deployment's.")] = None


class NamedAnswer(Answer):
    """What naming did."""

    person: PersonView
    subject_id: str
    enrolled: int = Field(description="Faces of the person's sightings that are references now.")
    sightings: int = Field(description="Sightings that have the name now, with their episodes.")
    visible: bool = Field(description="Recognition knows the name from now on.")


class MergePersons(Query):
    """Who else it is."""

    merged_id: Annotated[uuid.UUID, Field(description="The other person, whose sightings move.")]


class SplitPerson(Query):
    """Sightings that are somebody else's."""

    sighting_ids: Annotated[list[uuid.UUID], Field(min_length=1, max_length=500)]


class PersonForgotten(Answer):
    """What was erased of a person."""

    person_id: str
    sightings: int = Field(description="Sightings without face and picture now; that somebody was there stays.")
