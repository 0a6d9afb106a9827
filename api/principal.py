"""Who asks, and what they may do. Pure, but for aiohttp's request type.

A role is a set of permissions; an API key narrows it to its scopes; grants narrow it further to some collections, watchlists and camera
groups. What a principal is not granted answers like what does not exist (404), so that ids can't be guessed across tenants.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from aiohttp import web

from api.errors import ForbiddenError
from core.errors import NotFoundError

Role = Literal["viewer", "operator", "admin", "enroller", "service"]
Permission = Literal[
    "sightings.read",  # sightings, episodes, live events; faces of bystanders blurred
    "images.unblurred",  # pictures as they were taken
    "alerts.read",
    "alerts.act",  # acknowledge, confirm, reject, assign, close, comment
    "watchlists.read",
    "watchlists.write",
    "cameras.read",
    "cameras.write",
    "subjects.read",
    "subjects.write",  # make, change, enrol, merge
    "subjects.erase",
    "subjects.export",
    "collections.write",
    "search",  # by photo, reference or sighting; verification
    "history",  # where has this face been; unknown persons
    "recognize",  # still pictures as a service
    "cases.read",
    "cases.write",
    "jobs.read",
    "jobs.write",
    "thresholds.read",
    "thresholds.write",
    "webhooks.write",  # outward connections
    "metrics.read",
    "audit.read",
    "access.write",  # keys, users, grants
    "privacy.write",  # retention, opt-outs, key rotation
]
PERMISSIONS: frozenset[Permission] = frozenset(get_args(Permission))

_VIEWER: frozenset[Permission] = frozenset(
    ("sightings.read", "alerts.read", "watchlists.read", "cameras.read", "cases.read", "thresholds.read")
)
_OPERATOR: frozenset[Permission] = _VIEWER | frozenset(
    ("images.unblurred", "alerts.act", "subjects.read", "search", "history", "cases.write", "jobs.read")
)
_ENROLLER: frozenset[Permission] = frozenset(
    ("subjects.read", "subjects.write", "search", "recognize", "jobs.read", "jobs.write", "thresholds.read", "images.unblurred")
)
_SERVICE: frozenset[Permission] = frozenset(
    (
        "sightings.read",
        "alerts.read",
        "cameras.read",
        "subjects.read",
        "subjects.write",
        "subjects.erase",
        "collections.write",
        "search",
        "recognize",
        "jobs.read",
        "jobs.write",
        "metrics.read",
    )
)
ROLES: Mapping[Role, frozenset[Permission]] = {
    "viewer": _VIEWER,
    "operator": _OPERATOR,
    "enroller": _ENROLLER,
    "service": _SERVICE,
    "admin": PERMISSIONS,
}

Grant = frozenset[str] | None
"""Names; None = all there are and will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who has proven who they are."""

    actor: str
    """Kind and id, as the audit keeps it: ``key:<uuid>``, ``user:<uuid>``, ``oidc:<subject>``, ``settings`` (the token of the settings)."""
    name: str
    """For people."""
    role: Role
    permissions: frozenset[Permission]
    collections: Grant = None
    watchlists: Grant = None
    camera_groups: Grant = None

    def may(self, permission: Permission) -> bool:
        """Tell whether a permission is held."""
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Refuse who does not hold a permission. Raises ForbiddenError."""
        if permission not in self.permissions:
            raise ForbiddenError(f"{self.name} ({self.role}) may not do this: it needs the permission {permission}")

    def covers(self, other: "Principal") -> bool:
        """Tell whether all that another may do is allowed to this one too, so that this one may make, see and change the other."""
        grants = ((self.collections, other.collections), (self.watchlists, other.watchlists), (self.camera_groups, other.camera_groups))
        return other.permissions <= self.permissions and all(
            mine is None or (theirs is not None and theirs <= mine) for mine, theirs in grants
        )

    def require_collection(self, name: str) -> str:
        """Return the name of a granted collection. Raises NotFoundError for any other, there or not."""
        if self.collections is not None and name not in self.collections:
            raise NotFoundError(f"collection '{name[:80]}': there is none")
        return name

    def require_watchlist(self, name: str) -> str:
        """Return the name of a granted watchlist. Raises NotFoundError for any other, there or not."""
        if self.watchlists is not None and name not in self.watchlists:
            raise NotFoundError(f"watchlist '{name[:80]}': there is none")
        return name

    def sees_collection(self, name: str) -> bool:
        """Tell whether a collection is granted."""
        return self.collections is None or name in self.collections

    def sees_watchlist(self, name: str) -> bool:
        """Tell whether a watchlist is granted."""
        return self.watchlists is None or name in self.watchlists

    def sees_camera(self, groups: Iterable[str]) -> bool:
        """Tell whether a camera of these groups is granted."""
        return self.camera_groups is None or not self.camera_groups.isdisjoint(groups)


PRINCIPAL = web.RequestKey("principal", Principal)


def principal(request: web.Request) -> Principal:
    """Return who asks; the middleware has proven it."""
    return request[PRINCIPAL]
