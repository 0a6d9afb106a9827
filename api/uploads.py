"""Reading requests: ids, query, JSON and multipart, each with limits, each refused in one clear line when it does not fit."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from api.errors import InvalidRequestError, MalformedError, MediaTypeError, TooLargeError, UnprocessableError
from api.idempotency import content_read
from core.errors import NotFoundError
from sightings.record import parse_id

JSON = "application/json"
MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
MAX_JSON_BYTES = 256 << 10
MAX_FIELD_BYTES = 16 << 10  # of a form field that is no file
MAX_PARTS = 64  # of one multipart request
MAX_NAME = 200  # characters of a file name that are kept
READ_BYTES = 64 << 10

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a multipart request."""

    name: str
    """As the client gave it, without folders and control characters: for reports only, never a path."""
    data: bytes
    field: str = ""
    """Of the form."""


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart request: files of one field, and text fields."""

    files: list[Upload]
    fields: dict[str, str]


FORM = web.RequestKey("form", Form)


def path_id(request: web.Request, name: str, kind: str) -> str:
    """Return an id of the path in its usual spelling: names are no ids here.

    Raises:
        NotFoundError: it is no UUID.
    """
    text = request.match_info[name]
    key = parse_id(text)
    if key is None:
        raise NotFoundError(f"{kind} {text[:64]!r}: ids are UUIDs")
    return str(key)


def read_query(request: web.Request, model: type[M]) -> M:
    """Read the query string.

    Raises:
        InvalidRequestError: naming each parameter that does not fit.
    """
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name in values:
            raise InvalidRequestError(f"query: {name[:80]} is given twice", [{"field": name[:80], "problem": "given twice"}])
        values[name] = value
    return check(model, values, where="query")


async def read_json(
    request: web.Request, model: type[M], *, max_bytes: int = MAX_JSON_BYTES, content_types: Collection[str] = (JSON,)
) -> M:
    """Read a JSON body of at most ``max_bytes``.

    Raises:
        MediaTypeError, TooLargeError, InvalidRequestError: as their names say.
    """
    if request.content_type not in content_types:
        raise MediaTypeError(f"expected Content-Type {' or '.join(content_types)}, got {request.content_type[:80]}")
    data = await _read_whole(request, "JSON body", max_bytes)
    try:
        body = _validated(model, data)
    except ValidationError as err:
        raise _invalid(err, "body") from err
    await content_read(request, data)
    return body


async def _read_whole(request: web.Request, what: str, max_bytes: int) -> bytes:
    data = bytearray()
    async for chunk in request.content.iter_chunked(READ_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise TooLargeError(f"the {what} is larger than {max_bytes} bytes")
    return bytes(data)


def _validated(model: type[M], data: bytes) -> M:
    """Validate strictly, but for JSON's one kind of number: 3.0 is the whole number 3."""
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as err:
        if not any(problem["type"] == "int_type" for problem in err.errors(include_url=False, include_input=False)):
            raise
    return model.model_validate_json(msgspec.json.encode(_whole(msgspec.json.decode(data))), strict=True)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return {key: _whole(one) for key, one in value.items()} if isinstance(value, dict) else value


def bare_type(request: web.Request) -> str:
    """Return the content type without parameters; aiohttp's own takes 1 ms for each new boundary."""
    return request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


async def read_form(request: web.Request, *, file_field: str | Collection[str], max_bytes: int, needs_file: bool = True) -> Form:
    """Read a form into memory, up to ``max_bytes`` in all; read again, it is the same.

    Args:
        request: multipart; a form that needs no file may be URL-encoded too.
        file_field: names of the fields that are files.
        max_bytes: at most.
        needs_file: whether one must come.

    Raises:
        MediaTypeError: it is no form.
        TooLargeError: more bytes or parts than allowed; the rest is not read.
        MalformedError: it can't be read as a form. UnprocessableError: no file came.
    """
    fields = (file_field,) if isinstance(file_field, str) else tuple(file_field)
    form = request.get(FORM)
    if form is None and not needs_file and bare_type(request) == URLENCODED:
        form = request[FORM] = _decoded(await _read_whole(request, "form", MAX_FIELD_BYTES))
    elif form is None:
        form = request[FORM] = await _read_multipart(request, fields, max_bytes)
    if needs_file and not form.files:
        raise UnprocessableError(f"no file: send it as a form field named '{fields[0]}'")
    await content_read(request, _digest(form))
    return form


def _decoded(data: bytes) -> Form:
    """Return a URL-encoded form."""
    try:
        pairs = parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARTS)
    except ValueError as err:
        raise MalformedError("the form can't be read: it is not URL-encoded UTF-8, or has too many fields") from err
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise MalformedError("a form field is given twice")
    return Form([], fields)


async def _read_multipart(request: web.Request, fields: Sequence[str], max_bytes: int) -> Form:
    given = bare_type(request)
    if given != MULTIPART:
        raise MediaTypeError(f"expected Content-Type {MULTIPART} with a file in '{fields[0]}', got {given[:80] or 'none'}")
    if (request.content_length or 0) > max_bytes:
        raise TooLargeError(f"the upload has {request.content_length} bytes, at most {max_bytes} are taken (api.max_upload_bytes)")
    try:
        return await _read_parts(request, fields, max_bytes)
    except (
        ValueError,
        AssertionError,
        RuntimeError,
        LookupError,
        EOFError,
        HttpProcessingError,
    ) as err:  # what aiohttp raises on damaged parts
        raise MalformedError(
            f"the multipart body can't be read: {str(err).splitlines()[0][:200] if str(err) else type(err).__name__}"
        ) from err


def _digest(form: Form) -> bytes:
    """Return a digest of what was sent, whatever boundary was between the parts."""
    digest = hashlib.sha256()
    parts = [(name, value.encode(errors="surrogatepass")) for name, value in sorted(form.fields.items())] + [
        (upload.name, upload.data) for upload in form.files
    ]
    for name, data in parts:
        digest.update(f"{len(name)} {name} {len(data)} ".encode(errors="surrogatepass"))
        digest.update(data)
    return digest.digest()


async def _read_parts(request: web.Request, file_fields: Collection[str], max_bytes: int) -> Form:
    form = Form([], {})
    left = max_bytes
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise MalformedError("a part of the multipart body is itself multipart; send files one by one")
        if len(form.files) + len(form.fields) >= MAX_PARTS:
            raise TooLargeError(f"the multipart body has more than {MAX_PARTS} parts")
        name = part.name or ""
        if name in file_fields:
            data = await _read_part(part, left)
            left -= len(data)
            form.files.append(Upload(_file_name(part.filename), data, name))
        elif name in form.fields:
            raise MalformedError(f"form field '{name[:80]}' is given twice")
        else:
            form.fields[name[:80]] = (await _read_part(part, MAX_FIELD_BYTES)).decode()
    return form


async def _read_part(part: BodyPartReader, most: int) -> bytes:
    data = bytearray()
    if part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "binary").lower() not in ("binary", "8bit", "7bit"):
        raise MalformedError("a part has a Content-Transfer-Encoding; send the bytes as they are")
    while chunk := await part.read_chunk(READ_BYTES):
        data += chunk
        if len(data) > most:
            raise TooLargeError(f"form field '{(part.name or '')[:80]}' has more than the {most} bytes that are taken")
    return bytes(data)


def _file_name(given: str | None) -> str:
    base = (given or "photo").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in base if char.isprintable())[:MAX_NAME] or "photo"


def check(model: type[M], values: Mapping[str, Any], *, where: str) -> M:
    """Validate values that came as text.

    Raises:
        InvalidRequestError: naming each field that does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as err:
        raise _invalid(err, where) from err


def _invalid(err: ValidationError, where: str) -> InvalidRequestError:
    problems = [
        {"field": ".".join(map(str, one["loc"]))[:80] or where, "problem": one["msg"][:200]} for one in err.errors(include_url=False)[:20]
    ]
    first = problems[0]
    return InvalidRequestError(f"{where}: {first['field']}: {first['problem']}", problems)
