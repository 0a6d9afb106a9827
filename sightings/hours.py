"""When a watchlist is active: weekly intervals in a time zone. Pure, but for the time zone database of the machine."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from core.errors import UsageError

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
WEEK: Final = timedelta(days=7)
_MIDNIGHT = 24 * 60  # minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A time of day on some days of the week."""

    days: tuple[Day, ...]
    begin: str
    """``HH:MM``, local."""
    end: str
    """``HH:MM``, exclusive; at or before ``begin`` it is on the next day."""

    def __post_init__(self) -> None:
        if not self.days or any(day not in DAYS for day in self.days):
            raise UsageError(f"active hours: days {','.join(self.days)!r}: expected some of {', '.join(DAYS)}")
        if _time(self.begin) == _MIDNIGHT:
            raise UsageError("active hours: an interval can't begin at 24:00; write 00:00 and the next day")
        _time(self.end)

    def line(self) -> dict[str, Any]:
        """Return it as it is stored and shown."""
        return {"days": list(self.days), "from": self.begin, "to": self.end}


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        UsageError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:  # OSError: a folder of the database, such as 'Europe'
        raise UsageError(f"time zone {name[:64]!r}: there is none; use a name such as UTC or Europe/Berlin") from err


def is_active(intervals: Sequence[Interval], zone: str, first: datetime, last: datetime) -> bool:
    """Tell whether any instant of a stretch of time is within the intervals.

    Args:
        intervals: none = always.
        zone: IANA name. One that this machine does not know counts as always: better an alert too many.
        first: aware.
        last: aware, not before ``first``.
    """
    if not intervals or last - first >= WEEK:
        return True
    try:
        local = zone_of(zone)
    except UsageError:
        return True
    day, end = first.astimezone(local).date() - timedelta(days=1), last.astimezone(local).date()
    while day <= end:
        for interval in intervals:
            if DAYS[day.weekday()] in interval.days:
                begins, ends = _instants(interval, day, local)
                if begins <= last and ends > first:
                    return True
        day += timedelta(days=1)
    return False


def intervals_of(lines: Iterable[Mapping[str, Any]]) -> tuple[Interval, ...]:
    """Read what :meth:`Interval.line` made."""
    return tuple(Interval(days=tuple(one["days"]), begin=one["from"], end=one["to"]) for one in lines)


def parse_interval(text: str) -> Interval:
    """Parse ``mon-fri 08:00-18:00`` or ``sat,sun 00:00-24:00``.

    Raises:
        UsageError: saying what was expected.
    """
    days, _, hours = text.strip().lower().partition(" ")
    begin, dash, end = hours.strip().partition("-")
    found: list[Day] = []
    for part in days.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS or not dash:
            raise UsageError(f"active hours {text!r}: expected for example 'mon-fri 08:00-18:00' or 'sat,sun 00:00-24:00'")
        start, stop = DAYS.index(first), DAYS.index(last or first)
        found += [DAYS[place % 7] for place in range(start, (stop if stop >= start else stop + 7) + 1)]
    return Interval(days=tuple(day for day in DAYS if day in found), begin=begin.strip(), end=end.strip())


def _instants(interval: Interval, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    begin, end = _time(interval.begin), _time(interval.end)
    begins = datetime.combine(day, time(begin // 60, begin % 60), zone)
    ends = datetime.combine(day + timedelta(days=end // _MIDNIGHT if end > begin else 1), time(end % _MIDNIGHT // 60, end % 60), zone)
    return begins.astimezone(UTC), ends.astimezone(UTC)


def _time(text: str) -> int:
    """Return minutes since midnight; 24:00 is the end of the day."""
    hours, _, minutes = text.partition(":")
    if len(text) == 5 and text.isascii() and hours.isdigit() and minutes.isdigit():
        total = 60 * int(hours) + int(minutes)
        if int(minutes) < 60 and total <= _MIDNIGHT:
            return total
    raise UsageError(f"active hours: {text[:20]!r} is no time of day; expected HH:MM between 00:00 and 24:00")
