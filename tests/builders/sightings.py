"""Sightings for tests: complete, plausible, and different only where a test says so."""

import uuid
from typing import Any

import numpy as np

from core.schema import Array, Sighting, StageTimes, TrackPoint, sighting_id_of
from sightings.record import Arrival, check_sighting

NOW_S = 1_760_000_000.0
ALICE = str(uuid.UUID(int=0xA11CE))
BOB = str(uuid.UUID(int=0xB0B))
JPEG = b"\xff\xd8\xff\xe0 a small picture"


def sighting(
    track: str = "door/s1/1#0", *, first_s: float = 0.0, last_s: float | None = None, subject: str | None = None, **changes: Any
) -> Sighting:
    """Return a sighting; times are seconds after NOW_S; ``subject`` is ``alice``, ``bob`` or None for a stranger."""
    end_s = first_s + 5.0 if last_s is None else last_s
    named = {"alice": (ALICE, "Alice"), "bob": (BOB, "Bob"), None: (None, None)}[subject]
    fields: dict[str, Any] = {
        "sighting_id": sighting_id_of(track),
        "track_id": track,
        "camera": "door",
        "region": "default",
        "revision": 1,
        "closed": False,
        "outcome": "stranger" if subject is None else "subject",
        "reason": "below_threshold" if subject is None else "",
        "collection": "default",
        "subject_id": named[0],
        "subject": named[1],
        "reference_id": None if subject is None else str(uuid.UUID(int=7)),
        "score": 0.31 if subject is None else 0.73,
        "threshold": 0.48,
        "model": "fr_feature",
        "quality": 0.8,
        "faces": 4,
        "first_s": NOW_S + first_s,
        "last_s": NOW_S + end_s,
        "best_s": NOW_S + first_s,
        "best_box": (10.0, 20.5, 110.0, 150.0),
        "path": (TrackPoint(NOW_S + first_s, 10, 20, 110, 150), TrackPoint(NOW_S + end_s, 12, 20, 112, 150)),
        "times": StageTimes(**dict.fromkeys(StageTimes.__struct_fields__, NOW_S + first_s)),
        "embedding": Array.pack(np.full(4, 0.5, np.float32)),
    }
    return Sighting(**(fields | changes))


def arrival(*args: Any, thumbnail: bytes = JPEG, **changes: Any) -> Arrival:
    """Return a sighting as it comes to the store."""
    return check_sighting(sighting(*args, **changes), thumbnail)
