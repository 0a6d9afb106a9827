from datetime import datetime

import pytest

from cli.times import parse_time
from core.errors import UsageError

NOW_S = datetime(2026, 5, 1, 12, 30).astimezone().timestamp()


@pytest.mark.parametrize(
    ("text", "ago_s"),
    [("now", 0), ("-15m", 900), ("-30s", 30), ("-2h", 7200), ("-1.5d", 129_600), ("12:00", 1800), ("9:30:00", 10_800)],
)
def test_relative_times(text: str, ago_s: float) -> None:
    assert NOW_S - parse_time(text, now_s=NOW_S, option="--from") == pytest.approx(ago_s)


def test_dates_are_of_this_machine_unless_they_say_otherwise() -> None:
    assert parse_time("2026-05-01T12:30", now_s=0, option="--from") == NOW_S
    assert parse_time("1970-01-01T00:01:00Z", now_s=0, option="--from") == 60


@pytest.mark.parametrize("text", ["", "15m", "-15", "yesterday", "25:00", "2026-13-01"])
def test_what_is_no_time_names_the_option(text: str) -> None:
    with pytest.raises(UsageError, match="--from"):
        parse_time(text, now_s=NOW_S, option="--from")
