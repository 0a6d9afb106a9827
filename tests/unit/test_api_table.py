"""One table is both the routing and the document."""

import re
from collections.abc import Iterable

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import SecretStr

from api.errors import STATUS, status_of
from api.openapi import openapi_document
from api.security import check_api_settings
from api.table import ROUTES
from core import errors
from core.errors import SettingsError, SightlineError
from core.settings import ApiSettings

DOCUMENT = openapi_document(ROUTES, version="1")


def test_the_document_is_valid_openapi_31() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_route_is_described_with_its_answers() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        assert operation["summary"]
        assert any(status < "300" for status in operation["responses"])
        assert {one["name"] for one in operation["parameters"] if one["in"] == "path"} == set(re.findall(r"{(\w+)}", route.path))


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_all_of_our_errors_have_a_status() -> None:
    def below(kind: type[SightlineError]) -> Iterable[type[SightlineError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    for kind in below(SightlineError):
        if kind.__module__ == errors.__name__:
            assert kind in STATUS, f"{kind.__name__} needs a row of its own"
    assert status_of(type("Newer", (errors.NotFoundError,), {})("x")) == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "cameras.example"])
def test_no_address_needs_a_token_for_nothing_is_open_without_a_key(host: str) -> None:
    check_api_settings(ApiSettings(host=host))
    check_api_settings(ApiSettings(host=host, token=SecretStr("x" * 16)))


@pytest.mark.parametrize("token", ["", "short", "pässwörter-mit-umlaut"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    with pytest.raises(SettingsError, match=r"api\.token: needs at least 16 ASCII characters"):
        check_api_settings(ApiSettings(token=SecretStr(token)))
