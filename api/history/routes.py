"""Routes of this area."""

from functools import partial

from api.history import handlers, models, persons
from api.history import person_models as people
from api.models import PageQuery
from api.route import UPLOAD_S, Route

_WHERE = (
    "All sightings that are kept are compared, strangers included, at the cameras that are granted. Best score first, and by camera. "
    "Scores are exact cosines; the threshold follows from `fpir` and from how many sightings the filters leave."
)

_past = partial(Route, method="POST", tag="history", needs="history", description=_WHERE, answers={200: models.HistoryAnswer})
_person = partial(Route, tag="persons", needs="history")

ROUTES: tuple[Route, ...] = (
    _past(
        path="/v1/history/search",
        handler=handlers.history_photo,
        audit="history.photo",
        summary="Where has the person on this photo been?",
        form=models.HistoryForm,
        limit_s=UPLOAD_S,
        errors=(422,),
    ),
    _past(
        path="/v1/history/search/embedding",
        handler=handlers.history_embedding,
        audit="history.embedding",
        summary="Where has this embedding been?",
        body=models.HistoryEmbedding,
        errors=(422,),
    ),
    _past(
        path="/v1/history/search/sighting",
        handler=handlers.history_sighting,
        audit="history.sighting",
        summary="Where else has this sighting's face been?",
        body=models.HistorySighting,
        errors=(404, 422),
    ),
    _past(
        path="/v1/history/search/reference",
        handler=handlers.history_reference,
        audit="history.reference",
        summary="Where has this enrolled face been?",
        body=models.HistoryReference,
        errors=(404, 422),
    ),
    _person(
        method="GET",
        path="/v1/persons",
        handler=persons.list_persons,
        audit="persons.list",
        summary="List unknown persons",
        description="Strangers who came back are one person each. Who sees some cameras only is told what those saw.",
        query=people.PersonQuery,
        answers={200: people.PersonPage},
    ),
    _person(
        method="GET",
        path="/v1/persons/{person_id}",
        handler=persons.get_person,
        audit="person.read",
        summary="Show a person with its sightings",
        query=PageQuery,
        answers={200: people.PersonDetail},
        errors=(404,),
    ),
    _person(
        method="PATCH",
        path="/v1/persons/{person_id}",
        handler=persons.update_person,
        audit="person.change",
        summary="Label a person",
        body=people.PersonPatch,
        answers={200: people.PersonView},
        errors=(404, 412),
    ),
    _person(
        method="POST",
        path="/v1/persons/{person_id}/name",
        handler=persons.give_person_name,
        needs="subjects.write",
        audit="person.name",
        summary="Say who a person is",
        description="Enrols up to three of its best faces; all its sightings and episodes get the name. 202: recognition learns it later.",
        body=people.NamePerson,
        answers={200: people.NamedAnswer, 202: people.NamedAnswer},
        errors=(404, 409, 422),
    ),
    _person(
        method="DELETE",
        path="/v1/persons/{person_id}/name",
        handler=persons.take_person_name,
        needs="subjects.write",
        audit="person.unname",
        summary="Undo the naming of a person",
        answers={200: people.PersonView, 202: people.PersonView},
        errors=(404, 409),
    ),
    _person(
        method="POST",
        path="/v1/persons/{person_id}/merge",
        handler=persons.merge_persons,
        audit="person.merge",
        summary="Make two persons one",
        body=people.MergePersons,
        answers={200: people.PersonView},
        errors=(404, 409, 422),
    ),
    _person(
        method="POST",
        path="/v1/persons/{person_id}/unmerge",
        handler=persons.unmerge_person,
        audit="person.unmerge",
        summary="Undo the last merge into a person",
        answers={200: people.PersonView},
        errors=(404, 409),
    ),
    _person(
        method="POST",
        path="/v1/persons/{person_id}/split",
        handler=persons.split_person,
        audit="person.split",
        summary="Make some of a person's sightings another person",
        body=people.SplitPerson,
        answers={201: people.PersonView},
        errors=(404, 409),
    ),
    _person(
        method="DELETE",
        path="/v1/persons/{person_id}",
        handler=persons.forget_person,
        needs="subjects.erase",
        audit="person.erase",
        summary="Erase faces and pictures of a person",
        answers={200: people.PersonForgotten},
        errors=(404, 409),
    ),
)
