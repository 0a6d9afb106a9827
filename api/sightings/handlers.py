"""What was seen."""

from aiohttp import web
from pydantic import AwareDatetime

from api.access.guard import sees, visible_cameras
from api.images import picture
from api.principal import principal
from api.route import answer
from api.services import services
from api.sightings.models import EpisodePage, EpisodeQuery, EpisodeView, SightingDetail, SightingPage, SightingQuery, SightingView
from api.uploads import read_query
from core.errors import NotFoundError
from core.schema import SightingOutcome
from sightings.record import Filter


async def list_sightings(request: web.Request) -> web.Response:
    """Return a page of sightings."""
    query = read_query(request, SightingQuery)
    wanted = await _filter(request, query, outcome=query.outcome)
    found, cursor = await services(request).sightings.query(wanted, limit=query.limit, cursor=query.cursor)
    return answer(SightingPage(sightings=[SightingView.of(one) for one in found], next_cursor=cursor))


async def get_sighting(request: web.Request) -> web.Response:
    """Return one sighting with its path and stages."""
    key = request.match_info["sighting_id"]
    stored = await services(request).sightings.get(key)
    if not await sees(request, camera=stored.sighting.camera, collection=stored.sighting.collection):
        raise NotFoundError(f"sighting {key}: there is none")
    return answer(SightingDetail.of(stored))


async def get_thumbnail(request: web.Request) -> web.Response:
    """Return the picture of a sighting's best shot."""
    key = request.match_info["sighting_id"]
    sighting = (await services(request).sightings.get(key)).sighting
    if not await sees(request, camera=sighting.camera, collection=sighting.collection):
        raise NotFoundError(f"sighting {key}: there is none")
    jpeg = await services(request).sightings.thumbnail(key)
    return await picture(
        request, jpeg, name=f"{sighting.sighting_id}-{sighting.revision}", own="middle" if sighting.outcome == "subject" else "nobody"
    )


async def list_episodes(request: web.Request) -> web.Response:
    """Return a page of episodes."""
    query = read_query(request, EpisodeQuery)
    wanted = await _filter(request, query)
    found, cursor = await services(request).sightings.episodes(wanted, limit=query.limit, cursor=query.cursor)
    return answer(EpisodePage(episodes=[EpisodeView.of(one) for one in found], next_cursor=cursor))


async def _filter(request: web.Request, query: EpisodeQuery, outcome: SightingOutcome | None = None) -> Filter:
    """Return what is asked for, of what is granted."""
    return Filter(
        camera=query.camera,
        subject=query.subject,
        outcome=outcome,
        since_s=_seconds(query.since),
        until_s=_seconds(query.until),
        cameras=await visible_cameras(request),
        collections=principal(request).collections,
    )


def _seconds(time: AwareDatetime | None) -> float | None:
    return None if time is None else time.timestamp()
