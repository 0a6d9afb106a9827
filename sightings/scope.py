"""What of the record somebody may see. Pure.

The API makes it from the grants of who asks; the CLI, whose user has the machine, sees everything.
"""

from dataclasses import dataclass
from typing import Any

Names = frozenset[str] | None
"""None = all there are and will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Grants by name."""

    collections: Names = None
    watchlists: Names = None
    camera_groups: Names = None

    def lists(self) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
        """Return (collections, watchlists, camera groups) as arguments of SQL."""
        return _list(self.collections), _list(self.watchlists), _list(self.camera_groups)


EVERYTHING = Scope()


def _list(names: Names) -> Any:
    return None if names is None else sorted(names)
