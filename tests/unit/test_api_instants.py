"""Instants in queries, forms and JSON."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from api.models import Instant, Query

THEN = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)


class Asked(Query):
    since: Instant | None = None


@pytest.mark.parametrize("text", ["2001-09-09T01:46:40Z", "2001-09-09T03:46:40+02:00", "1000000000", "1e9", "1000000000.0"])
def test_text_is_read_alike_in_a_query_and_in_strict_json(text: str) -> None:
    assert Asked.model_validate({"since": text}).since == THEN
    assert Asked.model_validate_json(f'{{"since": "{text}"}}', strict=True).since == THEN


def test_what_is_an_instant_stays_one() -> None:
    assert Asked(since=THEN).since == THEN
    assert Asked.model_validate_json('{"since": null}', strict=True).since is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('"-1"', "as a number, it is Unix seconds from 0 to 20000000000"),
        ('"20000000001"', "as a number, it is Unix seconds from 0 to 20000000000"),
        ('"nan"', "as a number, it is Unix seconds from 0 to 20000000000"),
        ('"1e400"', "as a number, it is Unix seconds from 0 to 20000000000"),
        ('"2001-09-09T01:46:40"', "Input should have timezone info"),
        ('"yesterday"', "Input should be a valid datetime or date"),
        ("1000000000", "is text: RFC 3339 with offset"),
        ("true", "is text: RFC 3339 with offset"),
    ],
)
def test_what_is_none_is_told(value: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Asked.model_validate_json(f'{{"since": {value}}}', strict=True)
