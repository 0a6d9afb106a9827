"""How sightings and episodes become rows and come back. Pure; the statements belong to sightings.store."""

import uuid
from typing import Any

import msgspec
import numpy as np

from core.errors import SettingsError
from core.events import Told
from core.schema import Sighting, StageTimes, TrackPoint
from core.vault import Vault, label_of
from sightings.episodes import Episode
from sightings.record import Arrival, SeenFace, StoredEpisode, StoredSighting, at, seconds

# fmt: off
_COLUMNS = (
    "sighting_id", "track_id", "camera", "region", "revision", "closed", "outcome", "reason", "collection", "subject_id", "subject",
    "reference_id", "score", "threshold", "model", "quality", "faces", "first_at", "last_at", "best_at", "best_box", "path", "times",
    "embedding", "thumbnail", "shards_missing", "weak_for", "stored_at",
)
# fmt: on
UNIT = 0.05  # an embedding's length is 1 within this, or it is damaged
_JSON_COLUMNS = {"path", "times"}


def _upsert_sql() -> str:
    given = {column: f"${n}::text::jsonb" if column in _JSON_COLUMNS else f"${n}" for n, column in enumerate(_COLUMNS, 1)}
    given["stored_at"] = f"coalesce({given['stored_at']}::timestamptz, now())"
    updates = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS if column not in ("sighting_id", "stored_at"))
    updates += ", revised_at = now()"
    return (
        f"insert into sighting ({', '.join(_COLUMNS)}) values ({', '.join(given.values())}) "
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
SELECT_FACES = """
select s.sighting_id, s.camera, s.outcome, s.quality, s.first_at, s.last_at, s.revision, s.model, s.embedding from sighting s
"""
SELECT_EPISODES = """
select s.episode_id, s.camera, b.collection, s.subject_id, coalesce(g.name, b.subject) as subject, s.first_at, s.last_at,
       s.sightings, s.best_sighting_id
from episode s join sighting b on b.sighting_id = s.best_sighting_id left join subject g on g.subject_id = s.subject_id
"""
_EPISODE_COLUMNS = (
    "episode_id",
    "camera",
    "subject_id",
    "first_at",
    "first_sighting_id",
    "last_at",
    "sightings",
    "best_quality",
    "best_sighting_id",
)
UPSERT_EPISODE = f"""
insert into episode ({", ".join(_EPISODE_COLUMNS)}) values ({", ".join(f"${n}" for n in range(1, len(_EPISODE_COLUMNS) + 1))})
on conflict (episode_id) do update set {", ".join(f"{column} = excluded.{column}" for column in _EPISODE_COLUMNS[3:])}
"""
SELECT_REACHED = f"""
select {", ".join(_EPISODE_COLUMNS)} from episode where episode_id = any($1::uuid[])
union
select {", ".join(f"e.{column}" for column in _EPISODE_COLUMNS)}
from sighting s join episode e on e.camera = s.camera and e.subject_id = s.subject_id
    and e.last_at >= s.first_at - $3::interval and e.first_at <= s.last_at + $3::interval
where s.sighting_id = any($2::uuid[]) and s.outcome = 'subject'
"""
_SELECT_SPANS = "select sighting_id, camera, subject_id, first_at, last_at, quality, outcome, episode_id, revision from sighting "
SELECT_SPANS = _SELECT_SPANS + "where sighting_id = any($1::uuid[])"
SELECT_MEMBERS = _SELECT_SPANS + "where episode_id = any($1::uuid[]) and sighting_id <> all($2::uuid[])"


def sighting_row(arrival: Arrival, now_s: float | None, vault: Vault) -> tuple[Any, ...]:
    """Return the arguments of UPSERT_SIGHTING; a first arrival is stored at ``now_s`` (Unix seconds; None = now, says the database).

    Embedding and thumbnail are sealed, under labels with the sighting's id.
    """
    sighting = arrival.sighting
    values: dict[str, Any] = {name: getattr(sighting, name) for name in _COLUMNS if name in sighting.__struct_fields__}
    values |= {name: value and uuid.UUID(value) for name, value in values.items() if name.endswith("_id") and name != "track_id"}
    values |= {
        "first_at": at(sighting.first_s),
        "last_at": at(sighting.last_s),
        "best_at": at(sighting.best_s),
        "stored_at": None if now_s is None else at(now_s),
    }
    values |= {name: msgspec.json.encode(values[name]).decode() for name in _JSON_COLUMNS}
    values["best_box"] = list(sighting.best_box)
    values["weak_for"] = [uuid.UUID(key) for key in sighting.weak_for]
    for name, data in (("embedding", sighting.embedding and sighting.embedding.data), ("thumbnail", arrival.thumbnail)):
        values[name] = vault.seal(data, label=label_of(f"sighting {name}", sighting.sighting_id)) if data else None
    return tuple(values[name] for name in _COLUMNS)


def span_of(sighting: Sighting) -> dict[str, Any]:
    """Return a sighting as SELECT_SPANS tells of it once it is stored; its episode is not known yet."""
    same: dict[str, Any] = {name: getattr(sighting, name) for name in ("camera", "quality", "outcome", "revision")}
    return same | {
        "sighting_id": uuid.UUID(sighting.sighting_id),
        "subject_id": sighting.subject_id and uuid.UUID(sighting.subject_id),
        "first_at": at(sighting.first_s),
        "last_at": at(sighting.last_s),
        "episode_id": None,
    }


def told_of(row: dict[str, Any]) -> Told:
    """Return what others are told of a sighting, from a row with its id, revision, camera and collection."""
    return Told(key=str(row["sighting_id"]), revision=row["revision"], camera=row["camera"], collection=row["collection"])


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


def seen_face(row: dict[str, Any], vault: Vault) -> SeenFace | None:
    """Read a row of SELECT_FACES; None when its embedding can't be opened or is damaged: it must not hide the others."""
    key = str(row["sighting_id"])
    try:
        data = vault.open(row["embedding"], label=label_of("sighting embedding", key))
    except SettingsError:
        return None
    vector = np.frombuffer(data, "<f4") if len(data) % 4 == 0 else np.zeros(0, np.float32)
    norm = float(np.linalg.norm(vector))
    if not abs(norm - 1.0) < UNIT:
        return None
    same: dict[str, Any] = {name: row[name] for name in ("camera", "outcome", "quality", "revision", "model")}
    same |= {"first_s": seconds(row["first_at"]), "last_s": seconds(row["last_at"])}
    return SeenFace(sighting_id=key, embedding=np.asarray(vector / np.float32(norm), np.float32), **same)


def stored_episode(row: dict[str, Any]) -> StoredEpisode:
    """Read a row of SELECT_EPISODES."""
    text: dict[str, Any] = {name: str(row[name]) for name in ("episode_id", "subject_id", "best_sighting_id")}
    same = {name: row[name] for name in ("camera", "collection", "subject", "sightings")}
    return StoredEpisode(**text, **same, first_s=seconds(row["first_at"]), last_s=seconds(row["last_at"]))


def single(row: dict[str, Any], *, counted: bool = True) -> Episode:
    """Return a sighting of a subject, from a row of SELECT_SPANS or SELECT_MEMBERS, as an episode of its own."""
    same = {name: row[name] for name in ("camera", "subject_id", "first_at", "last_at")}
    key = row["sighting_id"]
    return Episode(**same, first_sighting_id=key, sightings=int(counted), best_quality=row["quality"], best_sighting_id=key)


def summary(row: dict[str, Any]) -> Episode:
    """Read a row of SELECT_REACHED."""
    return Episode(**{name: row[name] for name in _EPISODE_COLUMNS if name != "episode_id"})


def episode_row(episode: Episode) -> tuple[Any, ...]:
    """Return the arguments of UPSERT_EPISODE."""
    return tuple(getattr(episode, column) for column in _EPISODE_COLUMNS)
