"""Unknown persons: strangers who come back."""

import uuid

from aiohttp import web

from api.access.guard import visible_cameras
from api.errors import ForbiddenError, UnprocessableError
from api.history.follow import Match
from api.history.handlers import sighting_view
from api.history.naming import name_person, unname_person
from api.history.person_models import (
    MergePersons,
    NamedAnswer,
    NamePerson,
    PersonDetail,
    PersonForgotten,
    PersonPage,
    PersonPatch,
    PersonQuery,
    PersonView,
    SplitPerson,
)
from api.models import PageQuery
from api.notes import note
from api.principal import principal
from api.route import answer, expected_version
from api.services import services, visible
from api.uploads import read_json, read_query
from core.errors import NotFoundError
from sightings.people_store import PersonStore


async def list_persons(request: web.Request) -> web.Response:
    """Return a page of persons, as the granted cameras have seen them."""
    query = read_query(request, PersonQuery)
    found, cursor = await _store(request).page(
        order=query.order,
        least=query.min_sightings,
        named=query.named,
        cameras=await _cameras(request),
        limit=query.limit,
        cursor=query.cursor,
    )
    return answer(PersonPage(persons=[PersonView.of(one) for one in found], next_cursor=cursor))


async def get_person(request: web.Request) -> web.Response:
    """Return a person with its sightings."""
    query = read_query(request, PageQuery)
    cameras = await _cameras(request)
    person = await _store(request).get(_id(request), cameras=cameras)
    ids, cursor = await _store(request).sightings(person.person_id, cameras=cameras, limit=query.limit, cursor=query.cursor)
    stored = await services(request).sightings.listed(ids)
    views = [sighting_view(request, Match(stored=one, score=0.0)) for one in stored]
    view = PersonView.of(person)
    return answer(PersonDetail(person=view, sightings=views, next_cursor=cursor), version=person.version)


async def update_person(request: web.Request) -> web.Response:
    """Write down what people call a person."""
    body = await read_json(request, PersonPatch)
    _require_all_cameras(request)
    person = await _store(request).set_label(_id(request), body.label, version=expected_version(request))
    return answer(PersonView.of(person), version=person.version)


async def give_person_name(request: web.Request) -> web.Response:
    """Say who a person is."""
    body = await read_json(request, NamePerson)
    if (body.name is None) == (body.subject_id is None):
        raise UnprocessableError("give name, or subject_id")
    _require_all_cameras(request)
    named = await name_person(request, await _store(request).get(_id(request)), body)
    note(request, subject_id=named.subject_id, enrolled=named.enrolled, sightings=named.sightings)
    seen = await visible(request, named.generation)
    person = PersonView.of(await _store(request).get(_id(request)))
    view = NamedAnswer(person=person, subject_id=named.subject_id, enrolled=named.enrolled, sightings=named.sightings, visible=seen)
    return answer(view, status=200 if seen else 202)


async def take_person_name(request: web.Request) -> web.Response:
    """Undo the naming of a person."""
    _require_all_cameras(request)
    generation = await unname_person(request, _id(request))
    seen = await visible(request, generation)
    person = await _store(request).get(_id(request))
    return answer(PersonView.of(person), status=200 if seen else 202)


async def merge_persons(request: web.Request) -> web.Response:
    """Make two persons one."""
    body = await read_json(request, MergePersons)
    _require_all_cameras(request)
    survivor_id, merged_id = _id(request), str(body.merged_id)
    if survivor_id == merged_id:
        raise UnprocessableError("merged_id: is the person itself")
    person = await _store(request).merge(survivor_id, merged_id)
    note(request, merged_id=merged_id)
    return answer(PersonView.of(person), version=person.version)


async def unmerge_person(request: web.Request) -> web.Response:
    """Undo the last merge into a person."""
    _require_all_cameras(request)
    person = await _store(request).unmerge(_id(request))
    note(request, back_id=person.person_id)
    return answer(PersonView.of(person), version=person.version)


async def split_person(request: web.Request) -> web.Response:
    """Make some of a person's sightings another person."""
    body = await read_json(request, SplitPerson)
    _require_all_cameras(request)
    person = await _store(request).split(_id(request), sorted({str(one) for one in body.sighting_ids}))
    note(request, new_id=person.person_id, sightings=person.sightings)
    return answer(PersonView.of(person), status=201, version=person.version)


async def forget_person(request: web.Request) -> web.Response:
    """Erase faces and pictures of a person."""
    _require_all_cameras(request)
    person_id = _id(request)
    count = await _store(request).forget(person_id)
    note(request, sightings=count)
    return answer(PersonForgotten(person_id=person_id, sightings=count))


def _store(request: web.Request) -> PersonStore:
    return PersonStore(services(request).db)


def _id(request: web.Request) -> str:
    text = request.match_info["person_id"]
    try:
        return str(uuid.UUID(text))
    except ValueError as err:
        raise NotFoundError(f"person {text[:64]}: ids are UUIDs") from err


async def _cameras(request: web.Request) -> list[str] | None:
    seen = await visible_cameras(request)
    return None if seen is None else sorted(seen)


def _require_all_cameras(request: web.Request) -> None:
    """Refuse who does not see all cameras: a person may have been anywhere, and a change concerns all of it."""
    who = principal(request)
    if who.camera_groups is not None:
        raise ForbiddenError(f"{who.name} may not do this: it needs all cameras, and only some groups are granted")
