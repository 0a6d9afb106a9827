"""Routes of this area."""

from functools import partial

from api.models import PageQuery
from api.route import Route
from api.watchlists import handlers, models

_read = partial(Route, tag="watchlists", needs="watchlists.read")
_write = partial(Route, tag="watchlists", needs="watchlists.write")

ROUTES: tuple[Route, ...] = (
    _read(
        method="GET",
        path="/v1/watchlists",
        handler=handlers.list_watchlists,
        summary="List watchlists",
        query=models.WatchlistQuery,
        answers={200: models.WatchlistPage},
        errors=(404, 422),
    ),
    _write(
        method="POST",
        path="/v1/watchlists",
        handler=handlers.create_watchlist,
        audit="watchlist.create",
        summary="Make a watchlist",
        body=models.NewWatchlist,
        answers={201: models.WatchlistView},
        errors=(404, 409, 422),
    ),
    _read(
        method="GET",
        path="/v1/watchlists/{name}",
        handler=handlers.get_watchlist,
        summary="Show a watchlist",
        answers={200: models.WatchlistView},
    ),
    _write(
        method="PATCH",
        path="/v1/watchlists/{name}",
        handler=handlers.update_watchlist,
        audit="watchlist.update",
        summary="Change what a watchlist asks for",
        body=models.WatchlistPatch,
        answers={200: models.WatchlistView},
        errors=(409, 412, 422),
    ),
    _write(
        method="DELETE",
        path="/v1/watchlists/{name}",
        handler=handlers.delete_watchlist,
        audit="watchlist.delete",
        summary="Remove a watchlist",
        description="Its alerts stay.",
        answers={200: models.WatchlistRemoved},
        errors=(412,),
    ),
    _read(
        method="GET",
        path="/v1/watchlists/{name}/subjects",
        handler=handlers.list_watchlist_subjects,
        audit="watchlist.subjects",
        summary="List the subjects of a watchlist",
        query=PageQuery,
        answers={200: models.MemberPage},
        errors=(422,),
    ),
    _write(
        method="POST",
        path="/v1/watchlists/{name}/subjects",
        handler=handlers.add_watchlist_subjects,
        audit="watchlist.add",
        summary="Put subjects on a watchlist, all or none",
        body=models.NewMembers,
        answers={200: models.MembersAdded},
        errors=(409,),
    ),
    _write(
        method="DELETE",
        path="/v1/watchlists/{name}/subjects/{subject_id}",
        handler=handlers.remove_watchlist_subject,
        audit="watchlist.remove",
        summary="Take a subject off a watchlist",
        answers={200: models.MemberRemoved},
    ),
)
