"""Of whom somebody wants to hear, where and when."""

from dataclasses import replace

from aiohttp import web

from api.cursor import decode_name, not_ours, page_by_name
from api.errors import sensible
from api.models import PageQuery
from api.notes import note
from api.principal import principal
from api.route import answer, expected_version
from api.scope import scope
from api.services import services
from api.uploads import read_json, read_query
from api.watchlists.models import (
    MemberPage,
    MemberRemoved,
    MembersAdded,
    MemberView,
    NewMembers,
    NewWatchlist,
    WatchlistPage,
    WatchlistPatch,
    WatchlistQuery,
    WatchlistRemoved,
    WatchlistView,
    policy_fields,
)
from sightings.record import parse_id
from sightings.watchlists import Member, Policy, Watchlist, WatchlistStore


async def list_watchlists(request: web.Request) -> web.Response:
    """Return a page of watchlists."""
    query = read_query(request, WatchlistQuery)
    seen = scope(request)
    if query.collection is not None:
        seen = replace(seen, collections=frozenset((principal(request).require_collection(query.collection),)))
    found = await _store(request).watchlists(seen, after=decode_name(query.cursor), limit=query.limit + 1)
    page, following = page_by_name(found, query.limit, lambda watchlist: watchlist.name)
    return answer(WatchlistPage(watchlists=[WatchlistView.of(one) for one in page], next_cursor=following))


async def create_watchlist(request: web.Request) -> web.Response:
    """Make a watchlist."""
    body = await read_json(request, NewWatchlist)
    who = principal(request)
    collection = who.require_collection(body.collection or services(request).settings.recognize.collection)
    who.require_watchlist(body.name)
    with sensible():
        made = await _store(request).add(body.name, collection=collection, policy=Policy(**policy_fields(body)))
    note(request, watchlist=made.name)
    response = _shown(made, status=201)
    response.headers["Location"] = f"/v1/watchlists/{made.name}"
    return response


async def get_watchlist(request: web.Request) -> web.Response:
    """Return one watchlist."""
    return _shown(await _store(request).get(_name(request), scope(request)))


async def update_watchlist(request: web.Request) -> web.Response:
    """Change what a watchlist asks for."""
    body = await read_json(request, WatchlistPatch)
    changes, version = policy_fields(body), expected_version(request)
    note(request, watchlist=_name(request), changed=sorted(changes))
    with sensible():
        return _shown(await _store(request).change(_name(request), changes, version=version, scope=scope(request)))


async def delete_watchlist(request: web.Request) -> web.Response:
    """Remove a watchlist; its alerts stay."""
    await _store(request).remove(_name(request), version=expected_version(request), scope=scope(request))
    note(request, watchlist=_name(request))
    return answer(WatchlistRemoved(name=_name(request)))


async def list_watchlist_subjects(request: web.Request) -> web.Response:
    """Return a page of the subjects of a watchlist."""
    query = read_query(request, PageQuery)
    after = _member(query.cursor) if query.cursor else None
    found = await _store(request).page_of_members(_name(request), after=after, limit=query.limit + 1, scope=scope(request))
    page, following = page_by_name(found, query.limit, lambda member: f"{member.subject_id} {member.subject}")
    note(request, watchlist=_name(request), subjects=len(page))
    return answer(MemberPage(subjects=[MemberView.of(one) for one in page], next_cursor=following))


async def add_watchlist_subjects(request: web.Request) -> web.Response:
    """Put subjects on a watchlist."""
    body = await read_json(request, NewMembers)
    added = await _store(request).put(_name(request), body.subject_ids, scope=scope(request))
    now = await _store(request).get(_name(request), scope(request))
    note(request, watchlist=now.name, subject_ids=body.subject_ids[:20], added=added)
    return answer(MembersAdded(added=added, subjects=now.subjects))


async def remove_watchlist_subject(request: web.Request) -> web.Response:
    """Take a subject off a watchlist."""
    subject_id = request.match_info["subject_id"]
    removed = await _store(request).take(_name(request), [_id(subject_id)], scope=scope(request))
    note(request, watchlist=_name(request), subject_ids=[subject_id[:64]])
    return answer(MemberRemoved(removed=bool(removed)))


def _store(request: web.Request) -> WatchlistStore:
    return WatchlistStore(services(request).db)


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _id(text: str) -> str:
    """Return an id in its usual spelling: a name is none here, so that nobody is taken for who has an id as a name."""
    key = parse_id(text)
    return str(key) if key else "\x00"


def _member(cursor: str) -> Member:
    subject_id, _, name = decode_name(cursor).partition(" ")
    if parse_id(subject_id) is None:
        raise not_ours()
    return Member(subject_id=subject_id, subject=name)


def _shown(watchlist: Watchlist, status: int = 200) -> web.Response:
    return answer(WatchlistView.of(watchlist), status=status, version=watchlist.version)
