"""Bodies and queries of watchlists."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from api.models import Answer, Id, Name, PageQuery, Patch, Prose, Query
from sightings.hours import Day, Interval
from sightings.watchlists import AlertOn, Member, Policy, Sound, Watchlist

Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$", description="`#rrggbb`.")]
Zone = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+/-]{1,64}$", description="IANA name of the active hours' time zone.")]
Groups = Annotated[list[Name], Field(max_length=100, description="Only at cameras of one of these groups; none = at all cameras.")]
_EXAMPLE: dict[str, Any] = {
    "name": "banned",
    "collection": "default",
    "description": "House bans of the north branch",
    "colour": "#d32f2f",
    "sound": "alarm",
    "camera_groups": ["entrances"],
    "time_zone": "Europe/Berlin",
    "active_hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "07:00", "to": "20:00"}],
}


class Hours(Query):
    """A time of day on some days of the week."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    days: Annotated[list[Day], Field(min_length=1, max_length=7)]
    begin: Annotated[str, Field(alias="from", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="HH:MM, local.", examples=["08:00"])]
    end: Annotated[Clock, Field(alias="to", description="HH:MM, exclusive; at or before `from` it is on the next day.", examples=["18:00"])]

    def interval(self) -> Interval:
        """Return it as the store keeps it."""
        return Interval(days=tuple(self.days), begin=self.begin, end=self.end)


ActiveHours = Annotated[list[Hours], Field(max_length=50, description="Only for what is captured in these hours; none = always.")]


class WatchlistView(Answer):
    """Of whom somebody wants to hear, where and when."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE | {"enabled": True, "subjects": 12, "version": 3}]})

    name: str
    collection: str = Field(description="Whose subjects it lists.")
    description: str
    enabled: bool = Field(description="Whether it raises alerts.")
    alert_on: AlertOn = Field(description="`stranger`: on anybody who is not enrolled in the collection; it lists nobody.")
    colour: str
    sound: Sound = Field(description="That a console plays.")
    acknowledgement: bool = Field(description="An alert is not closed before somebody has acknowledged it.")
    camera_groups: list[str]
    time_zone: str
    active_hours: list[Hours]
    subjects: int
    threshold: dict[str, float] | None = Field(
        description="Its own, as `score`, `far` or `fpir`; null when it has none. Set it with PUT /v1/thresholds/watchlist/{name}."
    )
    version: int

    @classmethod
    def of(cls, watchlist: Watchlist) -> "WatchlistView":
        """Return a watchlist as the API shows it."""
        policy: dict[str, Any] = {name: getattr(watchlist.policy, name) for name in Policy.__dataclass_fields__}
        hours = [Hours(days=list(one.days), begin=one.begin, end=one.end) for one in policy.pop("active_hours")]
        own = {name: getattr(watchlist, name) for name in ("name", "collection", "subjects", "threshold", "version")}
        return cls(**own, **policy | {"camera_groups": list(policy["camera_groups"])}, active_hours=hours)


class WatchlistQuery(PageQuery):
    """Which watchlists."""

    collection: Name | None = None


class WatchlistPage(Answer):
    """Watchlists by name."""

    watchlists: list[WatchlistView]
    next_cursor: str | None


class _PolicyBody(Query):
    description: Prose = ""
    enabled: bool = True
    alert_on: AlertOn = "match"
    colour: Colour = "#d32f2f"
    sound: Sound = "none"
    acknowledgement: bool = True
    camera_groups: Groups = Field(default_factory=list)
    time_zone: Zone = "UTC"
    active_hours: ActiveHours = Field(default_factory=list)


class NewWatchlist(_PolicyBody):
    """A watchlist to make; subjects follow."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    name: Name
    collection: Name | None = Field(default=None, description="Whose subjects it lists; the default one if not given.")


class WatchlistPatch(_PolicyBody, Patch):
    """What to change; what is absent stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"sound": "chime", "active_hours": []}]})


def policy_fields(body: NewWatchlist | WatchlistPatch) -> dict[str, Any]:
    """Return the fields of the policy that a body names."""
    given = {name: getattr(body, name) for name in body.model_fields_set & set(Policy.__dataclass_fields__)}
    if "camera_groups" in given:
        given["camera_groups"] = tuple(sorted(set(given["camera_groups"])))
    if "active_hours" in given:
        given["active_hours"] = tuple(one.interval() for one in given["active_hours"])
    return given


class MemberView(Answer):
    """A subject of a watchlist."""

    subject_id: str
    subject: str

    @classmethod
    def of(cls, member: Member) -> "MemberView":
        """Return a member as the API shows it."""
        return cls(subject_id=member.subject_id, subject=member.subject)


class MemberPage(Answer):
    """Subjects of a watchlist by name."""

    subjects: list[MemberView]
    next_cursor: str | None


class NewMembers(Query):
    """Subjects to put on a watchlist, all or none."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [{"subject_ids": ["7b0c2f2e-2d8f-4a53-9d7e-0b5d2f1c9a10"]}]}
    )

    subject_ids: Annotated[list[Id], Field(min_length=1, max_length=500)]


class MembersAdded(Answer):
    """How many were put on it."""

    added: int = Field(description="That were not on it before.")
    subjects: int = Field(description="That are on it now.")


class MemberRemoved(Answer):
    """Whether somebody was taken off."""

    removed: bool = Field(description="False: was not on it.")


class WatchlistRemoved(Answer):
    """A watchlist is gone; its alerts stay."""

    name: str
