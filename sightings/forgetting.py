"""Erases a subject from everything that was seen: sightings, episodes, alerts, watchlists, cases and feedback."""

from core.events import tell_each
from core.ports import Database
from sightings.alerts_raise import forget_alerts
from sightings.cases import forget_cases
from sightings.feedback import forget_feedback
from sightings.locks import LOCK_FORGETTING
from sightings.record import required_id
from sightings.rows import told_of
from sightings.rulings import FORGOTTEN_REASON

_FORGET = """
update sighting
set outcome = 'stranger', reason = $2, subject_id = null, subject = null, reference_id = null, score = null, embedding = null,
    thumbnail = null, episode_id = null
where subject_id = $1
returning sighting_id, revision, camera, collection
"""
_REMEMBERED = """
select (select count(*) from sighting where subject_id = $1 and thumbnail is not null) as thumbnails,
       (select count(*) from alert where subject_id = $1) as alerts,
       (select count(*) from watchlist_subject where subject_id = $1) as watchlists
"""


async def forget_subject(db: Database, subject_id: str) -> int:
    """Erase a subject as :func:`forget_person` does, and return how many sightings named it."""
    return (await forget_person(db, subject_id))["sightings"]


async def forget_person(db: Database, subject_id: str) -> dict[str, int]:
    """Erase a subject from all sightings: name, ids, score, pictures and embeddings; and from those that still arrive.

    One transaction (or part of the caller's): after a crash either all is erased or nothing. Idempotent.

    Returns:
        How many sightings, thumbnails, episodes, alerts, watchlists and feedback named the subject or showed it.
    """
    key = required_id("subject", subject_id)
    async with db.transaction() as tx:
        await tx.fetch(LOCK_FORGETTING)
        await tx.execute("insert into forgotten_subject (subject_id) values ($1) on conflict do nothing", key)
        feedback = await forget_feedback(tx, key)
        before = (await tx.fetch(_REMEMBERED, key))[0]
        cases = await forget_cases(tx, key)
        erased = await tx.fetch(_FORGET, key, FORGOTTEN_REASON)
        await forget_alerts(tx, key)
        episodes = await tx.execute("delete from episode where subject_id = $1", key)
        await tell_each(tx, "sighting", [told_of(row) for row in erased])
    return {"sightings": len(erased), "episodes": episodes, "feedback": feedback, "case_sightings": cases} | dict(before)
