"""Names that were wrong, and names that were right."""

from datetime import timedelta

from aiohttp import web

from api.errors import UnprocessableError
from api.feedback.again import who_instead
from api.feedback.models import (
    Confirmation,
    FeedbackAnswer,
    FeedbackPage,
    FeedbackQuery,
    FeedbackView,
    Undoing,
    WrongPerson,
)
from api.notes import note
from api.principal import principal
from api.route import answer
from api.scope import scope
from api.services import services
from api.sightings.models import SightingView
from api.uploads import read_json, read_query
from core.errors import NotFoundError, UsageError
from sightings.feedback import Feedback, FeedbackStore
from sightings.taking import Said


async def say_wrong_person(request: web.Request) -> web.Response:
    """Keep that a sighting's name is wrong, for good."""
    body, store = await read_json(request, WrongPerson), _store(request)
    face = await store.face(request.match_info["sighting_id"])
    subject_id = str(body.subject_id) if body.subject_id else face.subject_id
    if subject_id is None:
        raise UnprocessableError(f"sighting {face.sighting_id}: names nobody; say with subject_id who it is not")
    after = await who_instead(request, face, subject_id) if subject_id == face.subject_id else None
    said = await store.wrong_person(face.sighting_id, subject_id, _said(request, body.reason), after)
    return await _shown(request, said)


async def undo_wrong_person(request: web.Request) -> web.Response:
    """Give a sighting the name back that was said to be wrong."""
    query = read_query(request, Undoing)
    subject_id = None if query.subject_id is None else str(query.subject_id)
    undone = await _store(request).undo(request.match_info["sighting_id"], subject_id, _said(request, ""))
    return await _shown(request, undone)


async def confirm_sighting(request: web.Request) -> web.Response:
    """Keep that a sighting's name is right."""
    body = await read_json(request, Confirmation)
    return await _shown(request, await _store(request).confirm(request.match_info["sighting_id"], _said(request, body.reason)))


async def list_feedback(request: web.Request) -> web.Response:
    """Return a page of what was said."""
    query = read_query(request, FeedbackQuery)
    try:
        found, following = await _store(request).query(
            subject_id=str(query.subject_id) if query.subject_id else None,
            sighting_id=str(query.sighting_id) if query.sighting_id else None,
            verdict=query.verdict,
            limit=query.limit,
            cursor=query.cursor,
        )
    except UsageError as err:
        raise UnprocessableError(str(err)) from err
    return answer(FeedbackPage(feedback=[FeedbackView.of(one) for one in found], next_cursor=following))


def _store(request: web.Request) -> FeedbackStore:
    gap = timedelta(seconds=services(request).settings.sightings.episode_gap_s)
    return FeedbackStore(services(request).db, episode_gap=gap, scope=scope(request))


def _said(request: web.Request, reason: str) -> Said:
    who = principal(request)
    return Said(actor=who.actor, name=who.name, reason=reason)


async def _shown(request: web.Request, said: Feedback) -> web.Response:
    note(request, sighting_id=said.sighting_id, subject_id=said.subject_id, feedback_id=said.feedback_id)
    try:
        sighting = SightingView.of(await services(request).sightings.get(said.sighting_id))
    except NotFoundError:
        sighting = None
    return answer(FeedbackAnswer(feedback=FeedbackView.of(said), sighting=sighting))
