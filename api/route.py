"""What a route is: one row of the table from which both the routing and the OpenAPI document are made."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import ETag, web
from pydantic import BaseModel

from api.principal import Permission
from core.errors import StaleError

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_VERSION = re.compile(r"v\d{1,18}")
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

    method: Method
    path: str
    """A parameter that ends in ``_id`` is an id; any other is a name."""
    handler: Handler
    summary: str
    tag: str
    description: str = ""
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    """JSON."""
    form: type[BaseModel] | None = None
    """multipart/form-data; fields of type bytes are files."""
    content: Media | None = None
    """A body that is neither: the bytes of a file, read as a stream."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that the handler reads, and what they are."""
    answers: Mapping[int, type[BaseModel] | Media] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    """Statuses with the error envelope, beside those that every route may answer."""
    needs: Permission | Literal["identity"] | None
    """What who asks must hold; ``identity`` = nothing, but they must prove who they are; None = not even that: health, pages, login."""
    audit: str = ""
    """The action under which the audit keeps each request, such as ``subject.read``; empty = not kept, for it touches nobody."""
    failure: Callable[[int, str, str], web.Response] | None = None
    """How failures are told (status, code, message) where clients expect another envelope than ours."""
    body_key: Callable[[web.Request], Awaitable[str | None]] | None = None
    """Reads the key from the body, where clients send it there; asked only when no header has one."""
    limit_s: float | None = REQUEST_S
    """The longest a request may take; None for streams."""

    @property
    def is_once(self) -> bool:
        """Whether a request that is sent again under its Idempotency-Key does nothing again; streams are not kept."""
        return self.method == "POST" and self.needs is not None and self.limit_s is not None


def answer(body: BaseModel, status: int = 200, *, version: int | None = None) -> web.Response:
    """Return a JSON response; ``version`` of the resource becomes its ETag."""
    response = web.Response(status=status, body=body.model_dump_json().encode(), content_type="application/json", charset="utf-8")
    if version is not None:
        response.etag = ETag(f"v{version}")
    return response


def expected_version(request: web.Request) -> int | None:
    """Return the version that If-Match names, which the change must be made to; None = any.

    Stores take it as ``version`` and raise StaleError (412) when the resource has moved on.

    Raises:
        StaleError: If-Match names something that no version ever was.
    """
    if "If-Match" not in request.headers:
        return None
    tags = request.if_match or ()
    numbers = [int(tag.value[1:]) for tag in tags if _VERSION.fullmatch(tag.value) and not tag.is_weak]
    if len(numbers) != 1:
        raise StaleError("If-Match: is not the ETag of any version; read the resource again")
    return numbers[0]
