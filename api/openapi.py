"""The OpenAPI 3.1 document, made from the route table and the models. Pure."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api.audit.keeping import PURPOSE_HEADER
from api.idempotency import HEADER, KEY_PATTERN
from api.models import LATEST_UNIX_S, ErrorEnvelope
from api.route import Media, Route

_REF = "#/components/schemas/{model}"
_ID = {"type": "string", "format": "uuid"}
_NAME = {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,64}$"}
_PARAMETER = re.compile(r"{(\w+)}")


def openapi_document(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """Return the document.

    Args:
        routes: the whole table.
        version: of this release.
    """
    models = sorted({pair for route in routes for pair in _models(route)}, key=lambda pair: pair[0].__name__)
    refs, definitions = models_json_schema(models, ref_template=_REF)
    for route in routes:
        if route.method == "PATCH" and route.body:
            definitions["$defs"][refs[route.body, "validation"]["$ref"].rpartition("/")[2]]["minProperties"] = 1
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sightline", "version": version, "description": "Face recognition: who is enrolled, who was seen, who is this."},
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"api_key": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, a token of the identity provider, or api.token."},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same, as other systems send it."},
                "session": {"type": "apiKey", "in": "cookie", "name": "sightline", "description": "See POST /v1/sessions."},
            },
        },
    }


def _models(route: Route) -> Iterable[tuple[type[BaseModel], JsonSchemaMode]]:
    yield ErrorEnvelope, "serialization"
    yield from ((model, "serialization") for model in route.answers.values() if not isinstance(model, Media))
    if route.body:
        yield route.body, "validation"


def _operation(route: Route, refs: Any) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _parameter(route, name)} for name in _PARAMETER.findall(route.path)
    ]
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": parameters + (_query_parameters(route.query) if route.query else []) + _header_parameters(route),
        "responses": _responses(route, refs),
    }
    if route.description:
        operation["description"] = route.description
    if route.needs is None:
        operation["security"] = []
    if route.body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": refs[(route.body, "validation")]}}}
    if route.form:
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _form_schema(route.form)}}}
    if route.content:
        schema = {"type": "string", "minLength": 1}
        operation["requestBody"] = {"required": True, "content": {route.content.content_type: {"schema": schema}}}
    return operation


def _parameter(route: Route, name: str) -> dict[str, Any]:
    if name.endswith("_id"):
        return _ID
    return _NAME if route.failure is None else {"type": "string"}  # names of other systems are any text


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    """Return the headers that a route understands beside those of every request."""
    headers: list[tuple[str, str, dict[str, str]]] = [(name, text, {"type": "string"}) for name, text in route.headers.items()]
    if route.audit:
        text = "Why this is asked: kept in the audit, its first 200 characters. Deployments may require it."
        headers.append((PURPOSE_HEADER, text, {"type": "string"}))
    if route.is_once:
        text = "Any text of your own; the same request under the same key is done once, and answered alike for a day."
        headers.append((HEADER, text, {"type": "string", "pattern": KEY_PATTERN}))
    if 412 in route.errors:
        headers.append(("If-Match", "ETag of the version to change; without it any.", {"type": "string", "pattern": r'^"v[0-9]{1,18}"$'}))
    return [{"name": name, "in": "header", "required": False, "schema": schema, "description": text} for name, text, schema in headers]


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _text(one), "description": one.get("description", "")}
        for name, one in schema["properties"].items()
    ]


def _form_schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    properties = {name: _binary(one) for name, one in schema["properties"].items()}
    closed = {} if model.model_config.get("extra") == "ignore" else {"additionalProperties": False}
    return {"type": "object", "properties": properties, "required": schema.get("required", []), **closed}


def _binary(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a file field's schema as OpenAPI 3.1 wants it: no type, a content media type."""
    if schema.get("format") == "binary":
        return {"contentMediaType": "application/octet-stream", "description": schema.get("description", "")}
    if schema.get("type") == "array":
        return schema | {"items": _binary(schema["items"])}
    return _text(schema) | ({"description": schema["description"]} if "description" in schema else {})


def _text(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that is sent as text, where absent is null and an instant may be Unix seconds."""
    given = _inlined(schema)
    kinds = [one for one in given.pop("anyOf", []) if one != {"type": "null"}]
    if len(kinds) == 1:
        given |= kinds[0]
    elif kinds:
        given["anyOf"] = kinds
    if given.get("format") == "date-time":
        given = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number", "minimum": 0, "maximum": LATEST_UNIX_S}]}
    if given.get("default", 0) is None:
        del given["default"]
    return given


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


def _responses(route: Route, refs: Any) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in route.answers.items():
        if isinstance(model, Media):
            responses[str(status)] = {"description": model.text, "content": {model.content_type: {}}}
        else:
            schema = refs[(model, "serialization")]
            responses[str(status)] = {
                "description": (model.__doc__ or "").splitlines()[0],
                "content": {"application/json": {"schema": schema}},
            }
    own = next((model.content_type for model in route.answers.values() if isinstance(model, Media)), "") if route.body else ""
    kind = own if route.failure and own else "application/json"
    envelope = {kind: {"schema": {"type": "object"} if route.failure else refs[(ErrorEnvelope, "serialization")]}}
    for status in sorted({*route.errors, *_common_errors(route)} - set(route.answers)):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": envelope}
    return responses


def _common_errors(route: Route) -> Iterable[int]:
    """Return the errors that follow from what a route reads."""
    yield from (403, 429, 500, 503)
    if route.needs is not None:
        yield 401
    if route.query or route.body or route.form or route.audit:
        yield from (400, 422)
    if route.body or route.form or route.content:
        yield from (400, 413, 415)
    if route.is_once:
        yield from (400, 409, 422)  # of Idempotency-Key
    if "{" in route.path:
        yield 404
