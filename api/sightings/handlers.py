"""What was seen."""

from aiohttp import web
from pydantic import AwareDatetime

from api.route import answer
from api.services import services
from api.sightings.models import EpisodePage, EpisodeQuery, EpisodeView, SightingDetail, SightingPage, SightingQuery, SightingView
from api.uploads import read_query
from sightings.record import Filter


async def list_sightings(request: web.Request) -> web.Response:
    """Return a page of sightings."""
    query = read_query(request, SightingQuery)
    wanted = Filter(
        camera=query.camera, subject=query.subject, outcome=query.outcome, since_s=_seconds(query.since), until_s=_seconds(query.until)
    )
    found, cursor = await services(request).sightings.query(wanted, limit=query.limit, cursor=query.cursor)
    return answer(SightingPage(sightings=[SightingView.of(one) for one in found], next_cursor=cursor))


async def get_sighting(request: web.Request) -> web.Response:
    """Return one sighting with its path and stages."""
    return answer(SightingDetail.of(await services(request).sightings.get(request.match_info["sighting_id"])))


async def get_thumbnail(request: web.Request) -> web.Response:
    """Return the picture of a sighting's best shot."""
    return web.Response(body=await services(request).sightings.thumbnail(request.match_info["sighting_id"]), content_type="image/jpeg")


async def list_episodes(request: web.Request) -> web.Response:
    """Return a page of episodes."""
    query = read_query(request, EpisodeQuery)
    wanted = Filter(camera=query.camera, subject=query.subject, since_s=_seconds(query.since), until_s=_seconds(query.until))
    found, cursor = await services(request).sightings.episodes(wanted, limit=query.limit, cursor=query.cursor)
    return answer(EpisodePage(episodes=[EpisodeView.of(one) for one in found], next_cursor=cursor))


def _seconds(time: AwareDatetime | None) -> float | None:
    return None if time is None else time.timestamp()
