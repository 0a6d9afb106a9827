"""Keys, users and sessions as they are stored. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, cast

from api.principal import ROLES, Grant, Permission, Principal, Role


class _Granted(Protocol):
    """Whatever has a role and grants: a row, or a body that asks for one."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def collections(self) -> Grant: ...
    @property
    def watchlists(self) -> Grant: ...
    @property
    def camera_groups(self) -> Grant: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """An API key."""

    key_id: str
    public_id: str
    name: str
    role: Role
    scopes: frozenset[Permission] | None
    collections: Grant
    watchlists: Grant
    camera_groups: Grant
    rate_per_minute: int | None
    requests_per_day: int | None
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    used_today: int
    version: int
    valid: bool
    """Neither revoked nor expired, by the database's clock."""
    secrets: tuple[bytes, ...] = field(repr=False)
    """SHA-256 of the secret, and of the one before while it is still good."""

    @classmethod
    def of(cls, row: dict[str, Any]) -> "KeyRecord":
        """Read a row of key_store.SELECT."""
        sets = {name: _set(row[name]) for name in ("scopes", "collections", "watchlists", "camera_groups")}
        hashes = tuple(bytes(one) for one in (row["secret_sha256"], row["old_secret"]) if one is not None)
        same = {name: row[name] for name in cls.__slots__ if name in row and name not in sets and name != "key_id"}
        return cls(key_id=str(row["key_id"]), secrets=hashes, **cast(Any, sets), **same)

    @property
    def principal(self) -> Principal:
        """Who holds the key."""
        return principal_of(self, actor=f"key:{self.key_id}", scopes=self.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """A person who logs in with a password."""

    user_id: str
    name: str
    role: Role
    collections: Grant
    watchlists: Grant
    camera_groups: Grant
    disabled: bool
    created_at: datetime
    created_by: str
    last_login_at: datetime | None
    version: int
    password: str = field(repr=False)
    """Argon2id, encoded."""

    @classmethod
    def of(cls, row: dict[str, Any]) -> "UserRecord":
        """Read a row of the table."""
        sets = {name: _set(row[name]) for name in ("collections", "watchlists", "camera_groups")}
        same = {name: row[name] for name in cls.__slots__ if name not in sets and name != "user_id"}
        return cls(user_id=str(row["user_id"]), **cast(Any, sets), **same)

    @property
    def principal(self) -> Principal:
        """Who it is."""
        return principal_of(self, actor=f"user:{self.user_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A browser that has proven who uses it: one of user, key and token is there."""

    began_at: datetime
    ends_at: datetime
    user: UserRecord | None
    key: KeyRecord | None
    token_sha256: bytes | None = field(repr=False)


def permissions_of(role: str) -> frozenset[Permission]:
    """Return what a role may; nothing for one that this release does not know."""
    return ROLES[cast(Role, role)] if role in ROLES else frozenset()


def principal_of(held: _Granted, *, actor: str = "", scopes: frozenset[Permission] | None = None) -> Principal:
    """Return what a role with its grants comes to, narrowed to scopes where there are some."""
    permissions = permissions_of(held.role)
    return Principal(
        actor=actor,
        name=held.name,
        role=held.role,
        permissions=permissions if scopes is None else permissions & scopes,
        collections=held.collections,
        watchlists=held.watchlists,
        camera_groups=held.camera_groups,
    )


def listed(values: frozenset[str] | None) -> list[str] | None:
    """Return a set as a column and an answer keep it."""
    return None if values is None else sorted(values)


def _set(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)
