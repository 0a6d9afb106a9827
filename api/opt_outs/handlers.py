"""People who must be matched and then dropped."""

from datetime import timedelta

from aiohttp import web

from api.gallery.asked import asked_subject
from api.notes import note
from api.opt_outs.models import NewOptOut, OptOutAnswer, OptOutGone, OptOutPage, OptOutQuery, OptOutView
from api.principal import principal
from api.route import answer
from api.services import services
from api.uploads import read_json, read_query
from recognize.rules.store import OptOutStore
from sightings.store import SightingStore


async def put_opt_out(request: web.Request) -> web.Response:
    """Let a subject be matched and then dropped."""
    body = await read_json(request, NewOptOut)
    subject_id = (await asked_subject(request)).subject_id
    behind, who = services(request), principal(request)
    async with behind.db.transaction() as tx:
        record = SightingStore(tx, episode_gap=timedelta(seconds=behind.settings.sightings.episode_gap_s))
        gone = await record.opt_out(subject_id, erase_past=body.erase_past)
        stored = await OptOutStore(tx).put(subject_id, reason=body.reason, actor=who.actor)
    note(request, subject_id=subject_id, sightings_erased=gone)
    return answer(OptOutAnswer(**OptOutView.of(stored).model_dump(), sightings_erased=gone))


async def delete_opt_out(request: web.Request) -> web.Response:
    """Tell of a subject again."""
    subject_id = (await asked_subject(request)).subject_id
    await OptOutStore(services(request).db).delete(subject_id)
    note(request, subject_id=subject_id)
    return answer(OptOutGone(subject_id=subject_id))


async def list_opt_outs(request: web.Request) -> web.Response:
    """Return a page of those who have opted out."""
    query, granted = read_query(request, OptOutQuery), principal(request).collections
    found = await OptOutStore(services(request).db).all(
        collections=None if granted is None else sorted(granted), after=str(query.cursor) if query.cursor else None, limit=query.limit + 1
    )
    page = found[: query.limit]
    following = page[-1].subject_id if len(found) > query.limit else None
    return answer(OptOutPage(opt_outs=[OptOutView.of(one) for one in page], next_cursor=following))
