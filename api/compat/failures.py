"""How other systems' clients are told of failures."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from core.errors import UsageError

AMZ_JSON: Final = "application/x-amz-json-1.1"
_COMPREFACE: Final[Mapping[str, int]] = {
    "unauthorized": 20,
    "no_face": 28,
    "several_faces": 31,
    "not_found": 42,
    "conflict": 43,
    "unreadable_media": 30,
    "too_large": 29,
}
_REKOGNITION: Final[Mapping[str, str]] = {
    "unauthorized": "UnrecognizedClientException",
    "forbidden": "AccessDeniedException",
    "not_found": "ResourceNotFoundException",
    "conflict": "ResourceAlreadyExistsException",
    "too_large": "ImageTooLargeException",
    "unreadable_media": "InvalidImageFormatException",
    "rate_limited": "ThrottlingException",
    "busy": "ThrottlingException",
    "unavailable": "InternalServerError",
    "timeout": "InternalServerError",
    "error": "InternalServerError",
}


class FaceProblemError(UsageError):
    """A photo with other faces than the call needs, or none of its own error codes fits."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.code = kind  # type: ignore[misc]


def compreface_failure(status: int, code: str, message: str) -> web.Response:
    """Return CompreFace's error: a message and its number (0 where it has none of its own)."""
    shown = 400 if code in _COMPREFACE and code not in ("not_found", "unauthorized") else status
    return _json(shown, {"message": message, "code": _COMPREFACE.get(code, 0)})


def rekognition_failure(status: int, code: str, message: str) -> web.Response:
    """Return an error as Rekognition's JSON 1.1 protocol has it."""
    kind = _REKOGNITION.get(code, "InvalidParameterException" if status < 500 else "InternalServerError")
    response = _json(500 if kind == "InternalServerError" else 400, {"__type": kind, "Message": message, "message": message, "Code": kind})
    response.content_type = AMZ_JSON
    response.headers["x-amzn-ErrorType"] = kind
    return response


def deepstack_failure(status: int, code: str, message: str) -> web.Response:
    """Return DeepStack's error."""
    return _json(status, {"success": False, "error": message, "code": code})


def _json(status: int, body: Mapping[str, Any]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
