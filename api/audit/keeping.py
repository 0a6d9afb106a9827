"""From a request to its entry in the audit."""

import json
import uuid
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

from api.errors import InvalidRequestError
from api.notes import NOTES
from api.principal import PRINCIPAL
from api.route import Route
from api.services import services
from core.audit.chain import Draft
from core.audit.trail import AuditTrail

AUDIT = web.AppKey("audit", AuditTrail)
PURPOSE_HEADER: Final = "X-Purpose"
MAX_PURPOSE: Final = 200
MAX_TARGETS: Final = 100
MAX_DETAILS: Final = 4096
ANONYMOUS: Final = "anonymous"
ID_LENGTH: Final = 36
STREAMS = web.RequestKey("streams", bool)


def check_purpose(request: web.Request, route: Route) -> None:
    """Refuse an audited request without a purpose, where one is required. Raises InvalidRequestError."""
    if route.audit and services(request).settings.audit.purpose_required and not _purpose(request):
        problem = f"say why in the header {PURPOSE_HEADER}: this deployment requires a purpose (audit.purpose_required)"
        raise InvalidRequestError(f"{PURPOSE_HEADER}: {problem}", [{"field": PURPOSE_HEADER, "problem": problem}])


async def keep_begin(request: web.Request, route: Route, request_id: str) -> None:
    """Keep that a stream begins, before its first byte. Raises UnavailableError: it is not kept."""
    await request.app[AUDIT].keep(_draft(request, route, web.Response(), request_id=request_id, phase="begun"))
    request[STREAMS] = True


async def keep(request: web.Request, route: Route, response: web.StreamResponse, request_id: str) -> None:
    """Keep a request and how it was answered; it is durable on return.

    Raises:
        UnavailableError: it is not kept, so nothing may be shown.
    """
    trail = request.app[AUDIT]
    draft = _draft(request, route, response, request_id=request_id, phase="ended" if STREAMS in request else "")
    if PRINCIPAL in request or response.status < 400:  # an upload's token proves no principal, but that it may be sent
        await trail.keep(draft)
    else:
        await trail.refuse(draft)


def clean(text: str, most: int) -> str:
    """Return text that any database and log takes, on one line."""
    return "".join(char if char.isprintable() else " " for char in text[:most]).strip()


def _draft(request: web.Request, route: Route, response: web.StreamResponse, *, request_id: str, phase: str) -> Draft:
    who = request.get(PRINCIPAL)
    facts = dict(request.get(NOTES, {}))
    purpose = _purpose(request) or clean(str(facts.pop("purpose", "")), MAX_PURPOSE)
    if phase:
        facts["stream"] = phase
    return Draft(
        actor=clean(who.actor, 200) if who else ANONYMOUS,
        actor_name=clean(who.name, 200) if who else "",
        role=who.role if who else "",
        action=route.audit,
        targets=_targets(request, facts, response.headers.get("Location", "")),
        purpose=purpose,
        outcome=response.status,
        request_id=request_id,
        client=clean(services(request).access.address(request), 64),
        details=_details(facts),
    )


def _purpose(request: web.Request) -> str:
    return clean(request.headers.get(PURPOSE_HEADER, ""), MAX_PURPOSE)


def _targets(request: web.Request, facts: dict[str, Any], made: str) -> tuple[str, ...]:
    """Return the ids that a request is about: of its path and query, of what it made, and what its handler noted as ``..._id(s)``."""
    found = [_id(value) for value in request.match_info.values()]
    found += [text for text in map(_id, (*request.query.values(), *made.split("/"))) if len(text) == ID_LENGTH and text.count("-") == 4]
    for name, value in facts.items():
        if name.endswith("_id") and value is not None:
            found.append(_id(str(value)))
        elif name.endswith("_ids") and isinstance(value, Iterable):
            found += [_id(str(one)) for one in value]
    return tuple(dict.fromkeys(found))[:MAX_TARGETS]


def _id(text: str) -> str:
    """Return an id in one spelling."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return clean(text, 64)


def _details(facts: dict[str, Any]) -> str:
    """Return facts as JSON of bounded size, in ASCII: whatever a handler notes can be stored."""
    text = json.dumps(facts, default=str, sort_keys=True, separators=(",", ":"))
    if len(text) > MAX_DETAILS:
        text = json.dumps({clean(name, 40): "left out" for name in list(facts)[:50]}, sort_keys=True, separators=(",", ":"))
    return text
