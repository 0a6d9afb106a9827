"""What somebody wanted to hear of, and what became of it."""

from datetime import timedelta
from typing import get_args

from aiohttp import web

from api.alerts.models import AlertCountQuery, AlertCounts, AlertDetail, AlertPage, AlertQuery, AlertView, Assignment, NewComment
from api.errors import sensible
from api.notes import note
from api.route import Handler, answer, expected_version
from api.scope import actor, scope
from api.services import services
from api.uploads import read_json, read_query
from sightings.alerts import AlertStore
from sightings.alerts_acts import Act, AlertDesk
from sightings.feedback import feedback_of_alerts
from sightings.record import AlertState, StoredAlert


async def list_alerts(request: web.Request) -> web.Response:
    """Return a page of alerts."""
    query = read_query(request, AlertQuery)
    with sensible():
        wanted = query.wanted(state=query.state, unacknowledged=query.unacknowledged)
        found, cursor = await _store(request).query(wanted, scope=scope(request), limit=query.limit, cursor=query.cursor)
    note(request, alerts=len(found))
    return answer(AlertPage(alerts=[AlertView.of(one) for one in found], next_cursor=cursor))


async def count_alerts(request: web.Request) -> web.Response:
    """Return how many alerts there are in each state."""
    query = read_query(request, AlertCountQuery)
    with sensible():
        wanted, unacknowledged = query.wanted(), query.wanted(unacknowledged=True)
    counts = await _store(request).counts(wanted, scope=scope(request))
    waiting = await _store(request).counts(unacknowledged, scope=scope(request))
    states: tuple[AlertState, ...] = get_args(AlertState)
    return answer(AlertCounts(**{state: counts.get(state, 0) for state in states}, unacknowledged=sum(waiting.values())))


async def get_alert(request: web.Request) -> web.Response:
    """Return an alert with its history."""
    return await _shown(request, await _store(request).get(_id(request), scope=scope(request)))


def act_on_alert(act: Act) -> Handler:
    """Return the handler of one act."""

    async def handler(request: web.Request) -> web.Response:
        alert = await _desk(request).act(_id(request), act, actor(request), version=expected_version(request))
        return await _shown(request, alert)

    handler.__name__ = f"{act}_alert"
    handler.__doc__ = f"{act.capitalize()} an alert."
    return handler


async def assign_alert(request: web.Request) -> web.Response:
    """Say who takes care of an alert."""
    body = await read_json(request, Assignment)
    alert = await _desk(request).assign(_id(request), body.assignee, actor(request), version=expected_version(request))
    return await _shown(request, alert)


async def comment_alert(request: web.Request) -> web.Response:
    """Add a comment to an alert."""
    body = await read_json(request, NewComment)
    return await _shown(request, await _desk(request).comment(_id(request), body.text, actor(request)), status=201)


def _store(request: web.Request) -> AlertStore:
    return AlertStore(services(request).db)


def _desk(request: web.Request) -> AlertDesk:
    gap = timedelta(seconds=services(request).settings.sightings.episode_gap_s)
    return AlertDesk(services(request).db, feedback_of_alerts(gap), scope=scope(request))


def _id(request: web.Request) -> str:
    return request.match_info["alert_id"]


async def _shown(request: web.Request, alert: StoredAlert, status: int = 200) -> web.Response:
    note(request, alert_id=alert.alert_id, subject_id=alert.subject_id)
    history = await _store(request).history(alert.alert_id)
    return answer(AlertDetail.with_history(alert, history), status=status, version=alert.version)
