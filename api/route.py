"""What a route is: one row of the table from which both the routing and the OpenAPI document are made."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REQUEST_S = 30.0
UPLOAD_S = 120.0


@dataclass(frozen=True, slots=True)
class Media:
    """A response that is not JSON."""

    content_type: str
    text: str
    """What it is, for the document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    handler: Handler
    summary: str
    tag: str
    description: str = ""
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    """JSON."""
    form: type[BaseModel] | None = None
    """multipart/form-data; fields of type bytes are files."""
    answers: Mapping[int, type[BaseModel] | Media] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    """Statuses with the error envelope, beside those that every route may answer."""
    public: bool = False
    """Needs no token."""
    limit_s: float | None = REQUEST_S
    """The longest a request may take; None for streams."""


def answer(body: BaseModel, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return web.Response(status=status, body=body.model_dump_json().encode(), content_type="application/json", charset="utf-8")
