"""Cursors come back as they went out, and nothing else is taken for one."""

import base64
import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import UsageError
from sightings.cursor import Cursor

TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 (hypothesis adds the zone)


@given(TIMES, st.uuids())
def test_a_cursor_survives_the_round_trip(at: datetime, row_id: object) -> None:
    cursor = Cursor(at, row_id)  # type: ignore[arg-type]
    assert Cursor.decode(cursor.encode()) == cursor


@given(st.text(max_size=60))
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="cursor: not one that this server gave out"):
        Cursor.decode(text)


@given(st.binary(min_size=24, max_size=24))
def test_bytes_of_the_right_length_are_either_a_cursor_or_refused(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).decode()
    with contextlib.suppress(UsageError):
        assert Cursor.decode(text).encode() == text
