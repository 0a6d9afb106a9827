"""What a handler adds to the audit entry of its request."""

from typing import Any

from aiohttp import web

NOTES = web.RequestKey("notes", dict[str, Any])


def note(request: web.Request, **facts: Any) -> None:
    """Add facts to the audit entry: ids, counts, settings of the search. Never names, pictures or embeddings."""
    request.setdefault(NOTES, {}).update(facts)
