"""Keeps the episodes in the database in step with changed sightings; the decisions are those of sightings.episodes."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from core.ports import Database
from sightings.episodes import Episode, Merged, extends, merge
from sightings.rows import SELECT_MEMBERS, SELECT_REACHED, SELECT_SPANS, UPSERT_EPISODE, episode_row, single, summary

Row = dict[str, Any]
_ASSIGN = """
update sighting s set episode_id = t.episode_id from unnest($1::uuid[], $2::uuid[]) t (sighting_id, episode_id)
where s.sighting_id = t.sighting_id and s.episode_id is distinct from t.episode_id
"""
_RENAME = """
update sighting s set episode_id = t.after from unnest($1::uuid[], $2::uuid[]) t (before, after) where s.episode_id = t.before
"""


async def spans_of(db: Database, sighting_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Row]:
    """Return the rows of SELECT_SPANS of those of the sightings that are there."""
    return {row["sighting_id"]: row for row in await db.fetch(SELECT_SPANS, list(sighting_ids))}


async def update_episodes(db: Database, before: Sequence[Row], after: Mapping[uuid.UUID, Row], *, gap: timedelta) -> list[uuid.UUID]:
    """Make episodes right again after sightings were stored or deleted, and return those that may have changed, as they are now.

    Args:
        db: the transaction in which that happened; it holds the locks of the cameras concerned.
        before: rows of SELECT_SPANS of the sightings that changed or went, as they were.
        after: likewise of the sightings that are new or changed, as they are stored by now; without their episodes will do.
        gap: the longest time between two sightings of one episode.
    """
    known = {row["episode_id"] for row in before if row["episode_id"]}
    named = any(row["outcome"] == "subject" for row in after.values())
    if not known and not named:
        return []
    reached = {row["episode_id"]: summary(row) for row in await db.fetch(SELECT_REACHED, list(known), list(after), gap)}
    broken = {row["episode_id"] for row in before if row["episode_id"] and not _stays(row, after, reached[row["episode_id"]])}
    members = await db.fetch(SELECT_MEMBERS, list(broken), list(after)) if broken else []
    inside = {row["sighting_id"] for row in before if row["episode_id"] and row["episode_id"] not in broken}
    singles = {row["sighting_id"]: single(row) for row in members}
    singles |= {key: single(row, counted=key not in inside) for key, row in after.items() if row["outcome"] == "subject"}
    whole = {key: episode for key, episode in reached.items() if key not in broken}
    made = merge([*whole.values(), *singles.values()], gap)
    owner: dict[uuid.UUID, uuid.UUID | None] = dict.fromkeys(after)
    owner |= {part.first_sighting_id: one.episode.episode_id for one in made for part in one.parts if _is_single(part, singles)}
    await _write(db, made, owner, old=reached)
    return [one.episode.episode_id for one in made]


async def _write(db: Database, made: Sequence[Merged], owner: dict[uuid.UUID, uuid.UUID | None], *, old: dict[uuid.UUID, Episode]) -> None:
    new = {one.episode.episode_id: one.episode for one in made}
    if fresh := [episode_row(episode) for key, episode in new.items() if old.get(key) != episode]:
        await db.executemany(UPSERT_EPISODE, fresh)
    renamed = {
        part.episode_id: one.episode.episode_id
        for one in made
        for part in one.parts
        if old.get(part.episode_id) is part and part.episode_id != one.episode.episode_id
    }
    if renamed:
        await db.execute(_RENAME, list(renamed), list(renamed.values()))
    await db.execute(_ASSIGN, list(owner), list(owner.values()))
    if gone := set(old) - set(new):
        await db.execute("delete from episode where episode_id = any($1::uuid[])", list(gone))


def _stays(row: Row, after: Mapping[uuid.UUID, Row], inside: Episode) -> bool:
    """Tell whether a changed sighting only adds to its episode."""
    now = after.get(row["sighting_id"])
    return now is not None and now["outcome"] == "subject" and extends(single(row), single(now), inside)


def _is_single(part: Episode, singles: dict[uuid.UUID, Episode]) -> bool:
    return singles.get(part.first_sighting_id) is part
