"""A photo that was looked at."""

from dataclasses import dataclass

from recognize.still import LookedAt


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A photo that was looked at."""

    width_px: int
    """Of the picture as people see it: EXIF orientation is applied."""
    height_px: int
    at: LookedAt
