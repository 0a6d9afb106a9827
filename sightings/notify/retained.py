"""What the broker keeps because we asked it to, so that it can be taken back: the SQL of the table ``mqtt_retained``."""

import uuid
from collections.abc import Sequence

from core.ports import Database

_KEEP = """
insert into mqtt_retained (topic, camera, sighting_id, subject_id) select t.topic, $2, $3, $4 from unnest($1::text[]) t (topic)
on conflict (topic) do update set camera = excluded.camera, sighting_id = excluded.sighting_id, subject_id = excluded.subject_id
"""
# Whoever was erased, merged away, opted out or is past retention is no longer named by the sighting that was told of.
_STALE = """
select r.topic from mqtt_retained r
where r.camera <> all($1::text[]) or (r.sighting_id is not null and not exists (
    select from sighting s where s.sighting_id = r.sighting_id and s.subject_id = r.subject_id))
order by r.topic
"""
_OPEN = "select camera, outcome, count(*) as faces from sighting where camera = any($1::text[]) and not closed group by camera, outcome"


class Retained:
    """Remembers retained topics. Only the one reader of the name ``mqtt`` uses it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def keep(self, topics: Sequence[str], *, camera: str, sighting_id: str | None = None, subject_id: str | None = None) -> None:
        """Note topics before they are published: a crash in between leaves a note too many, never one too few."""
        ids = [one and uuid.UUID(one) for one in (sighting_id, subject_id)]
        await self._db.execute(_KEEP, list(topics), camera, *ids)

    async def stale(self, cameras: Sequence[str]) -> list[str]:
        """Return the topics that must be taken back: of cameras that are none of these, and of people who are not to be named any more."""
        return [row["topic"] for row in await self._db.fetch(_STALE, list(cameras))]

    async def forget(self, topics: Sequence[str]) -> None:
        """Drop the notes of topics that were taken back."""
        await self._db.execute("delete from mqtt_retained where topic = any($1::text[])", list(topics))

    async def in_view(self, cameras: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return for each camera how many faces of each outcome are in view now."""
        found: dict[str, dict[str, int]] = {camera: {} for camera in cameras}
        for row in await self._db.fetch(_OPEN, list(cameras)):
            found[row["camera"]][row["outcome"]] = row["faces"]
        return found
