"""The audit for those who may see it."""

from datetime import UTC, datetime

from aiohttp import web

from api.audit.keeping import AUDIT
from api.audit.models import AuditEntry, AuditPage, AuditQuery
from api.notes import note
from api.route import answer
from api.uploads import read_query
from core.audit.store import AuditFilter


async def list_audit(request: web.Request) -> web.Response:
    """Return a page of the audit."""
    query = read_query(request, AuditQuery)
    wanted = AuditFilter(
        actor=query.actor, action=query.action, target=query.target, since=_in_utc(query.since), until=_in_utc(query.until)
    )
    before = int(query.cursor) if query.cursor else None
    found, following = await request.app[AUDIT].store.query(wanted, limit=query.limit, before=before)
    note(request, entries=len(found))
    return answer(AuditPage(entries=[AuditEntry.of(one) for one in found], next_cursor=None if following is None else str(following)))


def _in_utc(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    try:
        return time.astimezone(UTC)
    except OverflowError:  # a day from the first or last that there is
        return time.replace(tzinfo=UTC)
