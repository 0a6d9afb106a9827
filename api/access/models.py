"""Bodies and queries of keys, users and sessions."""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, Field, SecretStr

from api.access.record import KeyRecord, SessionRecord, UserRecord, listed
from api.models import Answer, CursorText, Limit, Query
from api.principal import Permission, Principal, Role

MIN_PASSWORD = 12
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["door controller"])]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$", examples=["ada@example.org"])]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Names = Annotated[frozenset[Name], Field(max_length=1000)]
Collections = Annotated[Names | None, Field(description="Only these collections; null = all there are and will be.", examples=[["staff"]])]
Watchlists = Annotated[Names | None, Field(description="Only these watchlists; null = all.")]
CameraGroups = Annotated[Names | None, Field(description="Only cameras of any of these groups; null = all cameras.", examples=[["lobby"]])]
Scopes = Annotated[
    frozenset[Permission] | None,
    Field(description="Permissions of the role that the key has; null = all of them.", examples=[["search"]]),
]
PerMinute = Annotated[int | None, Field(ge=1, le=1_000_000, description="Requests a minute; null = api.rate_per_minute.")]
PerDay = Annotated[int | None, Field(ge=1, le=1 << 53, description="Requests a day (UTC), on all servers together; null = any number.")]
Expiry = Annotated[AwareDatetime | None, Field(description="From then on the key is refused; null = never.")]
NewPassword = Annotated[SecretStr, Field(min_length=MIN_PASSWORD, max_length=200)]


class NewKeyBody(Query):
    """A key for a program. It can't hold more than the key that makes it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "door controller", "role": "service", "scopes": ["search"], "collections": ["staff"]}]}
    )
    name: Label
    role: Role
    scopes: Scopes = None
    collections: Collections = None
    watchlists: Watchlists = None
    camera_groups: CameraGroups = None
    rate_per_minute: PerMinute = None
    requests_per_day: PerDay = None
    expires_at: Expiry = None


class KeyPatch(Query):
    """What to change; what is absent stays, null lifts a limit."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests_per_day": 10000}]})
    name: Annotated[Label | None, Field(description="null = stays.")] = None
    scopes: Scopes = None
    collections: Collections = None
    watchlists: Watchlists = None
    camera_groups: CameraGroups = None
    rate_per_minute: PerMinute = None
    requests_per_day: PerDay = None
    expires_at: Expiry = None


class Rotation(Query):
    """How a key gets a new secret."""

    grace_s: Annotated[float, Field(ge=0, le=30 * 86400, description="So long the secret before is still good.", examples=[3600])] = 3600.0


class KeyView(Answer):
    """An API key, without its secret."""

    key_id: str
    prefix: str = Field(description="How the key begins; the rest is kept by nobody but its holder.", examples=["sl_9bXq2LrT7aVd"])
    name: str
    role: str
    permissions: list[str] = Field(description="What it may do: its role's, narrowed to its scopes.")
    scopes: list[str] | None
    collections: list[str] | None
    watchlists: list[str] | None
    camera_groups: list[str] | None
    rate_per_minute: int | None
    requests_per_day: int | None
    requests_today: int = Field(description="Counted up to a second ago.")
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    created_by: str = Field(description="Who made it, as the audit names them.")
    last_used_at: datetime | None = Field(description="Exact to a minute.")
    version: int

    @classmethod
    def of(cls, key: KeyRecord, /, **more: str) -> "KeyView":
        """Return a key as the API shows it."""
        same = {name: getattr(key, name) for name in _SAME_KEY}
        return cls(
            **same,
            **_grants(key.principal),
            prefix=f"sl_{key.public_id}",
            permissions=sorted(key.principal.permissions),
            scopes=listed(key.scopes),
            requests_today=key.used_today,
            **more,
        )


_SAME_KEY = (
    "key_id",
    "name",
    "role",
    "rate_per_minute",
    "requests_per_day",
    "expires_at",
    "revoked_at",
    "created_at",
    "created_by",
    "last_used_at",
    "version",
)


class KeyMade(KeyView):
    """A key with its secret: shown this once."""

    key: str = Field(description="Send it as `Authorization: Bearer ...`, never in a URL.", examples=["sl_9bXq2LrT7aVd_..."])


class KeyQuery(Query):
    """Which keys."""

    limit: Limit = 50
    cursor: CursorText | None = None


class KeyPage(Answer):
    """Keys, newest first; only such that hold no more than who asks."""

    keys: list[KeyView]
    next_cursor: str | None


class NewUserBody(Query):
    """A person who logs in with a password. They can't be given more than who makes them holds."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ada", "password": "correct horse battery", "role": "operator"}]})
    name: UserName
    password: NewPassword
    role: Role
    collections: Collections = None
    watchlists: Watchlists = None
    camera_groups: CameraGroups = None


class UserPatch(Query):
    """What to change; what is absent stays. A new password, or disabling, ends the user's sessions."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"disabled": True}]})
    password: NewPassword | None = Field(default=None, description="null = stays.")
    role: Annotated[Role | None, Field(description="null = stays.")] = None
    collections: Collections = None
    watchlists: Watchlists = None
    camera_groups: CameraGroups = None
    disabled: Annotated[bool | None, Field(description="null = stays.")] = None


class UserView(Answer):
    """A user."""

    user_id: str
    name: str
    role: str
    collections: list[str] | None
    watchlists: list[str] | None
    camera_groups: list[str] | None
    disabled: bool
    created_at: datetime
    created_by: str
    last_login_at: datetime | None
    version: int

    @classmethod
    def of(cls, user: UserRecord) -> "UserView":
        """Return a user as the API shows it."""
        same = {name: getattr(user, name) for name in cls.model_fields if name not in _GRANTS}
        return cls(**same, **_grants(user.principal))


class UserQuery(Query):
    """Which users."""

    limit: Limit = 50
    cursor: CursorText | None = None


class UserPage(Answer):
    """Users by name; only such that hold no more than who asks."""

    users: list[UserView]
    next_cursor: str | None


class Login(Query):
    """A user with their password, or a key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "ada", "password": "correct horse battery"}, {"key": "sl_..."}]})
    user: UserName | None = None
    password: Annotated[SecretStr | None, Field(max_length=200)] = None
    key: Annotated[SecretStr | None, Field(max_length=500, description="Instead of user and password.")] = None


class OwnPassword(Query):
    """A user's own new password."""

    password: Annotated[SecretStr, Field(max_length=200, description="The one so far.")]
    new_password: NewPassword


class SessionView(Answer):
    """Who asks, and what they may do."""

    actor: str = Field(description="As the audit names them.", examples=["user:7a0c..."])
    name: str
    role: str
    permissions: list[str]
    collections: list[str] | None
    watchlists: list[str] | None
    camera_groups: list[str] | None
    csrf_token: str | None = Field(description="A session's changes need it in the header X-CSRF-Token; null for keys and tokens.")
    ends_at: datetime | None = Field(description="When the session ends at the latest.")

    @classmethod
    def of(cls, who: Principal, *, session: SessionRecord | None = None, csrf: str | None = None) -> "SessionView":
        """Return who asks as the API shows it."""
        return cls(
            actor=who.actor,
            name=who.name,
            role=who.role,
            permissions=sorted(who.permissions),
            **_grants(who),
            csrf_token=csrf,
            ends_at=session.ends_at if session else None,
        )


class SessionEnded(Answer):
    """Logged out."""

    ended: bool = True


class UserRemoved(Answer):
    """The user is gone, and so are the sessions."""

    user_id: str


_GRANTS = ("collections", "watchlists", "camera_groups")


def _grants(who: Principal) -> dict[str, list[str] | None]:
    return {name: listed(getattr(who, name)) for name in _GRANTS}
