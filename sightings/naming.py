"""Sightings that get another name than recognition gave them: named by a person, or their subject turned out to be another one.

What cameras still tell of them gets that name too (sightings.rulings).
"""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from core.events import tell_each
from core.ports import Database
from sightings.alerts_raise import follow_episodes
from sightings.grouping import spans_of, update_episodes
from sightings.locks import LOCK_FORGETTING, LOCK_TO_STORE
from sightings.rows import SELECT_SPANS, told_of
from sightings.rulings import NAMED_REASON

_GIVE = """
update sighting set outcome = 'subject', reason = $2, subject_id = $3, subject = $4, reference_id = $5 where sighting_id = any($1::uuid[])
"""
_TAKE = """
update sighting set outcome = 'stranger', reason = 'below_threshold', subject_id = null, subject = null, reference_id = null
where sighting_id = any($1::uuid[])
"""
_REMEMBER = """
insert into sighting_naming (sighting_id, subject_id, reference_id) select unnest($1::uuid[]), $2, $3
on conflict (sighting_id) do update set subject_id = excluded.subject_id, reference_id = excluded.reference_id, named_at = now()
"""
_HAND_OVER = "update sighting set subject_id = $2, subject = $3 where sighting_id = any($1::uuid[])"
_HAND_OVER_ALERTS = "update alert set subject_id = $2, subject = $3 where alert_id = any($1::uuid[]) and subject_id = $4"
_TOLD = "select sighting_id, revision, camera, collection from sighting where sighting_id = any($1::uuid[])"


async def name_sightings(
    tx: Database, sighting_ids: Sequence[str], *, subject: tuple[str, str], reference_id: str | None, gap: timedelta
) -> int:
    """Give sightings a name, once and for all, with the episodes that follow from it; no alert is raised for what is past.

    Args:
        tx: the transaction; nothing else may follow in it, for the event that is told last makes others wait.
        sighting_ids: those of them that are there are named.
        subject: id and name.
        reference_id: what was enrolled from them, if anything was.
        gap: the longest time between two sightings of one episode.

    Returns:
        How many were named.
    """
    ids = [uuid.UUID(one) for one in sighting_ids]
    before = await _locked(tx, ids)
    ids = [row["sighting_id"] for row in before]
    subject_id, name = subject
    await tx.execute(_GIVE, ids, NAMED_REASON, subject_id, name, reference_id)
    await tx.execute(_REMEMBER, ids, subject_id, reference_id)
    await _follow(tx, before, ids, gap)
    return len(ids)


async def take_names(tx: Database, sighting_ids: Sequence[uuid.UUID], *, gap: timedelta) -> int:
    """Undo ``name_sightings``: what a person named is a stranger again, and belongs to no episode.

    Args:
        tx: the transaction; nothing else may follow in it.
        sighting_ids: those of them that a person named lose the name.
        gap: see name_sightings.

    Returns:
        How many lost their name.
    """
    rows = await tx.fetch("select sighting_id from sighting_naming where sighting_id = any($1::uuid[])", list(sighting_ids))
    before = await _locked(tx, [row["sighting_id"] for row in rows])
    ids = [row["sighting_id"] for row in before]
    await tx.execute(_TAKE, ids)
    await tx.execute("delete from sighting_naming where sighting_id = any($1::uuid[])", ids)
    await _follow(tx, before, ids, gap)
    return len(ids)


class Hands:
    """Hands over what was seen of one subject to another. Thread rule: one event loop; any number of processes."""

    def __init__(self, *, gap: timedelta) -> None:
        """Take the longest time between two sightings of one episode."""
        self._gap = gap

    async def hold(self, tx: Database) -> None:
        """Keep out who stores sightings until the transaction ends: taken before any subject is locked."""
        await tx.fetch(LOCK_FORGETTING)

    async def move(self, tx: Database, from_id: str, to: tuple[str, str]) -> dict[str, list[uuid.UUID]]:
        """Hand everything that was seen of a subject to another: sightings, episodes, alerts, names that people gave.

        Args:
            tx: the transaction, which holds.
            from_id: whose.
            to: id and name of who gets them.

        Returns:
            What was moved: ids under ``sighting`` and ``alert``.
        """
        sightings = await tx.fetch("select sighting_id from sighting where subject_id = $1 order by sighting_id", uuid.UUID(from_id))
        alerts = await tx.fetch("select alert_id from alert where subject_id = $1 order by alert_id", uuid.UUID(from_id))
        moved = {"sighting": [row["sighting_id"] for row in sightings], "alert": [row["alert_id"] for row in alerts]}
        await self.give_back(tx, moved, (from_id, *to))
        return moved

    async def give_back(self, tx: Database, moved: dict[str, list[uuid.UUID]], owners: tuple[str, str, str]) -> None:
        """Hand over some sightings and alerts of a subject; those that have another one by now, or are gone, stay as they are.

        Args:
            tx: the transaction, which holds.
            moved: ids under ``sighting`` and ``alert``.
            owners: id of who has them, id and name of who gets them.
        """
        from_id, to_id, to_name = owners
        before = await tx.fetch(SELECT_SPANS + "and subject_id = $2", moved["sighting"], uuid.UUID(from_id))
        ids = [row["sighting_id"] for row in before]
        await tx.execute(_HAND_OVER, ids, to_id, to_name)
        await tx.execute("update sighting_naming set subject_id = $2 where sighting_id = any($1::uuid[])", ids, to_id)
        await tx.execute(_HAND_OVER_ALERTS, moved["alert"], to_id, to_name, from_id)
        await follow_episodes(tx, await update_episodes(tx, before, await spans_of(tx, ids), gap=self._gap))

    async def tell(self, tx: Database, moved: dict[str, list[uuid.UUID]]) -> None:
        """Tell who follows what is seen; nothing may follow in the transaction, for others wait until it ends."""
        await _tell(tx, moved["sighting"])


async def _locked(tx: Database, ids: Sequence[uuid.UUID]) -> list[dict[str, Any]]:
    """Return the sightings as they are, with their cameras' writers kept out until the transaction ends."""
    cameras = sorted({row["camera"] for row in await tx.fetch(SELECT_SPANS, list(ids))})
    await tx.fetch(LOCK_TO_STORE, cameras)
    return await tx.fetch(SELECT_SPANS, list(ids))


async def _follow(tx: Database, before: list[dict[str, Any]], ids: list[uuid.UUID], gap: timedelta) -> None:
    """Make episodes and alerts right again, and tell who follows what is seen."""
    await follow_episodes(tx, await update_episodes(tx, before, await spans_of(tx, ids), gap=gap))
    await _tell(tx, ids)


async def _tell(tx: Database, ids: Sequence[uuid.UUID]) -> None:
    await tell_each(tx, "sighting", [told_of(row) for row in await tx.fetch(_TOLD, list(ids))])
