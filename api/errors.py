"""From our errors to HTTP, in one table. The rest of the platform knows no status codes."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from aiohttp import web

from api.models import ErrorBody, ErrorEnvelope
from core.errors import (
    ConflictError,
    MessageError,
    ModelError,
    NotFoundError,
    SettingsError,
    SightlineError,
    StaleError,
    UnavailableError,
    UnreadableMediaError,
    UsageError,
)
from core.outbound import AddressRefusedError

RETRY_AFTER_S = 1


class InvalidRequestError(UsageError):
    """Fields of a request that do not fit their model."""

    code: ClassVar[str] = "invalid_request"

    def __init__(self, message: str, details: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.details = details


class MalformedError(UsageError):
    """What was sent can't be read as what it should be: no multipart, no known field, no key."""

    code: ClassVar[str] = "malformed"


class UnprocessableError(UsageError):
    """Each field fits its model, but together, or for what is there, they make no sense."""

    code: ClassVar[str] = "unprocessable"


class NothingEnrolledError(UnprocessableError):
    """Photos of which none could be enrolled."""

    code: ClassVar[str] = "nothing_enrolled"

    def __init__(self, message: str, details: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.details = details


class TooLargeError(UsageError):
    """The request holds more bytes, parts or characters than allowed."""

    code: ClassVar[str] = "too_large"


class MediaTypeError(UsageError):
    """The body is of another type than the route reads."""

    code: ClassVar[str] = "unsupported_media_type"


class UnauthorizedError(UsageError):
    """The bearer token is missing or wrong."""

    code: ClassVar[str] = "unauthorized"


class ForbiddenError(UsageError):
    """The request comes by a name or from a page that this server does not serve."""

    code: ClassVar[str] = "forbidden"


class TooManyRequestsError(UsageError):
    """Who asks has asked too often."""

    code: ClassVar[str] = "too_many_requests"

    def __init__(self, message: str, *, retry_s: float) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class UpgradeRequiredError(UsageError):
    """The route is a WebSocket, the request is none."""

    code: ClassVar[str] = "upgrade_required"


class UnreachableError(UnavailableError):
    """A camera or server that the client named does not answer us; we are well."""

    code: ClassVar[str] = "unreachable"


class BusyError(UnavailableError):
    """More work waits than will be done soon."""

    code: ClassVar[str] = "busy"


STATUS: Mapping[type[SightlineError], int] = {
    InvalidRequestError: 400,
    UnreachableError: 424,
    UnprocessableError: 422,
    TooLargeError: 413,
    MediaTypeError: 415,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    TooManyRequestsError: 429,
    UpgradeRequiredError: 426,
    BusyError: 503,
    MalformedError: 400,
    UsageError: 422,
    MessageError: 400,
    AddressRefusedError: 422,
    UnreadableMediaError: 422,
    NotFoundError: 404,
    ConflictError: 409,
    StaleError: 412,
    ModelError: 503,
    UnavailableError: 503,
    SettingsError: 500,
    SightlineError: 500,
}
_HTTP_CODES = {400: "usage", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type", 500: "error"}


@contextmanager
def sensible() -> Iterator[None]:
    """Answer 422 to what a store refuses although it fits its schema: a cursor of another server, a time zone that is none."""
    try:
        yield
    except UsageError as err:
        if type(err) is UsageError:
            raise UnprocessableError(str(err)) from err
        raise


def status_of(error: SightlineError) -> int:
    """Return the status for the nearest class of the error in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_response(status: int, code: str, message: str, *, request_id: str, details: list[dict[str, Any]] | None = None) -> web.Response:
    """Return the error envelope."""
    envelope = ErrorEnvelope(error=ErrorBody(code=code, message=message, details=details or []), request_id=request_id)
    response = web.Response(status=status, text=envelope.model_dump_json(), content_type="application/json")
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status == 426:
        response.headers["Upgrade"] = "websocket"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="sightline"'
    return response


def response_of(error: SightlineError, *, request_id: str) -> web.Response:
    """Return the answer to a request that failed with one of our errors."""
    details = error.details if isinstance(error, InvalidRequestError | NothingEnrolledError) else None
    response = error_response(status_of(error), error.code, str(error), request_id=request_id, details=details)
    if isinstance(error, TooManyRequestsError):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_s)))
    return response


def response_of_http(error: web.HTTPException, *, request_id: str) -> web.Response:
    """Return the answer to a request that aiohttp itself refused."""
    code = _HTTP_CODES.get(error.status, error.reason.lower().replace(" ", "_"))
    response = error_response(error.status, code, error.reason, request_id=request_id)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
