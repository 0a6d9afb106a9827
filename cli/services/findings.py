"""Who was seen in a scene: sightings out of PostgreSQL, held against the script's visits."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cli.services.scene import SceneCamera
from core.adapters.postgres import open_database

STRANGER = "stranger"
UNCLEAR = "unclear"
SLACK_S = 1.0
"""Capture times against the scene's clock; half the pause between visits would still be unambiguous."""

Finding = tuple[str, str, int | None]
"""(camera, who, number of the visit); None = outside all visits."""

_SIGHTINGS = """
select camera, outcome, coalesce(subject, '') as subject, closed,
       extract(epoch from first_at)::float8 as first_s, extract(epoch from last_at)::float8 as last_s
from sighting where last_at >= to_timestamp($1) order by first_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What of a sighting counts here."""

    camera: str
    who: str
    """A name, STRANGER or UNCLEAR."""
    first_s: float
    last_s: float
    closed: bool


def expected(cameras: Sequence[SceneCamera]) -> set[Finding]:
    """Return what a right fleet finds."""
    return {
        (camera.name, visit.person if visit.known else STRANGER, number) for camera in cameras for number, visit in enumerate(camera.visits)
    }


def findings(cameras: Sequence[SceneCamera], seen: Sequence[Seen], began_s: float) -> set[Finding]:
    """Return who was found in which visit: every name that was given, and STRANGER where nobody was named.

    Args:
        cameras: the script.
        seen: sightings since the scene began.
        began_s: Unix time of the scene's first picture.
    """
    visits = {camera.name: camera.visits for camera in cameras}
    by_visit: dict[tuple[str, int | None], Counter[str]] = defaultdict(Counter)
    for one in seen:
        number = _visit_of([(visit.starts_s, visit.ends_s) for visit in visits.get(one.camera, ())], one, began_s)
        by_visit[one.camera, number][one.who] += 1
    found: set[Finding] = set()
    for (camera, number), whos in by_visit.items():
        named = {who for who in whos if who not in (STRANGER, UNCLEAR)}
        found |= {(camera, who, number) for who in named or ({STRANGER} & set(whos))}
    return found


def _visit_of(spans: Sequence[tuple[float, float]], one: Seen, began_s: float) -> int | None:
    """Return the visit that a sighting shares most time with."""
    first_s, last_s = one.first_s - began_s, one.last_s - began_s
    shared = [min(last_s, ends_s + SLACK_S) - max(first_s, starts_s - SLACK_S) for starts_s, ends_s in spans]
    best = max(range(len(spans)), key=lambda number: shared[number], default=None)
    return best if best is not None and shared[best] >= 0 else None


def read_seen(url: str, data_dir: Path, since_s: float) -> list[Seen]:
    """Return the sightings since a time. Raises UnavailableError."""
    rows = read_rows(url, data_dir, _SIGHTINGS, since_s)
    return [
        Seen(
            camera=row["camera"],
            who=row["subject"] if row["outcome"] == "subject" else row["outcome"],
            first_s=row["first_s"],
            last_s=row["last_s"],
            closed=row["closed"],
        )
        for row in rows
    ]


def read_rows(url: str, data_dir: Path, sql: str, *args: Any) -> list[dict[str, Any]]:
    """Run one query from a program that has no event loop. Raises UnavailableError."""

    async def query() -> list[dict[str, Any]]:
        async with open_database(url, data_dir=data_dir, migrations=files("deploy") / "migrations") as db:
            return await db.fetch(sql, *args)

    return asyncio.run(query())
