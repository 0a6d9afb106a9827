"""How sightings and episodes become rows and come back. Pure; the statements belong to sightings.store."""

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from core.schema import Sighting, StageTimes, TrackPoint
from sightings.episodes import Episode, Span
from sightings.record import Arrival, StoredEpisode, StoredSighting, at, seconds

# fmt: off
_COLUMNS = (
    "sighting_id", "track_id", "camera", "region", "revision", "closed", "outcome", "reason", "collection", "subject_id", "subject",
    "reference_id", "score", "threshold", "model", "quality", "faces", "first_at", "last_at", "best_at", "best_box", "path", "times",
    "embedding", "thumbnail", "shards_missing", "stored_at",
)
# fmt: on
_JSON_COLUMNS = {"path", "times"}


def _upsert_sql() -> str:
    places = (f"${n}::text::jsonb" if column in _JSON_COLUMNS else f"${n}" for n, column in enumerate(_COLUMNS, 1))
    updates = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS if column not in ("sighting_id", "stored_at"))
    return (
        f"insert into sighting ({', '.join(_COLUMNS)}) values ({', '.join(places)}) "
        f"on conflict (sighting_id) do update set {updates} where excluded.revision > sighting.revision"
    )


UPSERT_SIGHTING = _upsert_sql()
_SELECT = """
select s.sighting_id, s.track_id, s.camera, s.region, s.revision, s.closed, s.outcome, s.reason, s.collection, s.subject_id,
       coalesce(g.name, s.subject) as subject, s.reference_id, s.score, s.threshold, s.model, s.quality, s.faces,
       s.first_at, s.last_at, s.best_at, s.best_box, s.times::text as times, s.shards_missing, s.episode_id,
       s.thumbnail is not null as has_thumbnail, {path} as path
from sighting s left join subject g on g.subject_id = s.subject_id
"""
SELECT_LISTED = _SELECT.format(path="'[]'")
SELECT_ONE = _SELECT.format(path="s.path::text")
SELECT_EPISODES = """
select s.episode_id, s.camera, s.collection, s.subject_id, coalesce(g.name, s.subject) as subject, s.first_at, s.last_at,
       s.sightings, s.best_sighting_id
from episode s left join subject g on g.subject_id = s.subject_id
"""
UPSERT_EPISODE = """
insert into episode (episode_id, camera, collection, subject_id, subject, first_at, last_at, sightings, best_sighting_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (episode_id) do update set collection = excluded.collection, subject = excluded.subject, first_at = excluded.first_at,
    last_at = excluded.last_at, sightings = excluded.sightings, best_sighting_id = excluded.best_sighting_id
"""
SELECT_SPANS = """
select sighting_id, camera, collection, subject_id, subject, first_at, last_at, quality, outcome from sighting
where episode_id = any($1::uuid[]) or sighting_id = any($2::uuid[])
"""


def sighting_row(arrival: Arrival, now_s: float) -> tuple[Any, ...]:
    """Return the arguments of UPSERT_SIGHTING; a first arrival is stored at ``now_s`` (Unix seconds)."""
    sighting = arrival.sighting
    values: dict[str, Any] = {name: getattr(sighting, name) for name in _COLUMNS if name in sighting.__struct_fields__}
    values |= {name: value and uuid.UUID(value) for name, value in values.items() if name.endswith("_id") and name != "track_id"}
    values |= {"first_at": at(sighting.first_s), "last_at": at(sighting.last_s), "best_at": at(sighting.best_s), "stored_at": at(now_s)}
    values |= {name: msgspec.json.encode(values[name]).decode() for name in _JSON_COLUMNS}
    values["best_box"] = list(sighting.best_box)
    values["embedding"] = sighting.embedding and sighting.embedding.data
    values["thumbnail"] = arrival.thumbnail
    return tuple(values[name] for name in _COLUMNS)


def stored_sighting(row: dict[str, Any]) -> StoredSighting:
    """Read a row of SELECT_LISTED or SELECT_ONE."""
    text: dict[str, Any] = {name: row[name] and str(row[name]) for name in ("sighting_id", "subject_id", "reference_id")}
    same = {name: row[name] for name in Sighting.__struct_fields__ if name in row and name not in text}
    same |= {
        "first_s": seconds(row["first_at"]),
        "last_s": seconds(row["last_at"]),
        "best_s": seconds(row["best_at"]),
        "best_box": tuple(row["best_box"]),
        "path": msgspec.json.decode(row["path"], type=tuple[TrackPoint, ...]),
        "times": msgspec.json.decode(row["times"], type=StageTimes),
    }
    episode_id = row["episode_id"] and str(row["episode_id"])
    return StoredSighting(sighting=Sighting(**text, **same), episode_id=episode_id, has_thumbnail=row["has_thumbnail"])


def stored_episode(row: dict[str, Any]) -> StoredEpisode:
    """Read a row of SELECT_EPISODES."""
    text: dict[str, Any] = {name: str(row[name]) for name in ("episode_id", "subject_id", "best_sighting_id")}
    same = {name: row[name] for name in ("camera", "collection", "subject", "sightings")}
    return StoredEpisode(**text, **same, first_s=seconds(row["first_at"]), last_s=seconds(row["last_at"]))


def span_of(row: dict[str, Any]) -> Span:
    """Read what episodes are made of from a row of SELECT_SPANS."""
    return Span(**{name: row[name] for name in ("sighting_id", "camera", "subject_id", "first_at", "last_at", "quality")})


def episode_row(episode: Episode, members: dict[uuid.UUID, dict[str, Any]]) -> tuple[Any, ...]:
    """Return the arguments of UPSERT_EPISODE; ``members`` are the rows of SELECT_SPANS by id."""
    latest = max((members[key] for key in episode.sighting_ids), key=lambda row: (row["last_at"], row["sighting_id"]))
    return (
        episode.episode_id,
        episode.camera,
        latest["collection"],
        episode.subject_id,
        latest["subject"],
        episode.first_at,
        episode.last_at,
        len(episode.sighting_ids),
        episode.best_sighting_id,
    )


def assignment(episodes: Sequence[Episode], sighting_ids: Sequence[uuid.UUID]) -> tuple[list[uuid.UUID], list[uuid.UUID | None]]:
    """Return sightings and, beside each, its episode (None for those without), as two columns."""
    owner = {sighting_id: episode.episode_id for episode in episodes for sighting_id in episode.sighting_ids}
    return list(sighting_ids), [owner.get(sighting_id) for sighting_id in sighting_ids]
