"""Every route by role: who gets in. ``python -m api.access.matrix > docs/api/permissions.md`` renews the page; a test keeps it true."""

import sys
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from api.principal import PERMISSIONS, ROLES, Role
from api.route import Route

NOBODY: Final = "nobody"
Gate = Literal["in", "own", "401", "403"]
HEAD: Final = """# Who may do what

Generated from the route table by `python -m api.access.matrix`; a test sends every one of these requests and checks the answer.

`in`: the request reaches the resource. `401`: who asks has not proven who they are. `403`: their role does not hold the permission.
`own`: the request carries proof of its own, a password or the token of one upload, and is answered `401` without it.
Grants narrow this further: what is not granted answers `404`, like what does not exist. An API key may hold less than its role (scopes).
"""


def gate(route: Route, role: Role | None) -> Gate:
    """Return how far a request to a route comes; None is nobody."""
    if route.needs is None:
        return "own" if 401 in route.errors else "in"
    if role is None:
        return "401"
    return "in" if route.needs == "identity" or route.needs in ROLES[role] else "403"


def render(routes: Sequence[Route]) -> str:
    """Return the page."""
    routes_head = ("request", "needs", NOBODY, *ROLES)
    rows = [
        (
            f"`{route.method} {route.path}`",
            "nothing" if route.needs is None else "a key or session" if route.needs == "identity" else f"`{route.needs}`",
            gate(route, None),
            *(gate(route, role) for role in ROLES),
        )
        for route in sorted(routes, key=lambda one: (one.path, one.method))
    ]
    held = [(f"`{name}`", *("yes" if name in ROLES[role] else "" for role in ROLES)) for name in sorted(PERMISSIONS)]
    return "\n".join(
        (
            HEAD,
            "## Permissions of the roles\n",
            *_table(("permission", *ROLES), held),
            "\n## Routes\n",
            *_table(routes_head, rows),
            "",
        )
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def main() -> None:
    """Write the page to standard output."""
    from api.table import ROUTES

    sys.stdout.write(render(ROUTES))


if __name__ == "__main__":
    main()
