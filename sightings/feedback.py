"""What people say of a name: that it is wrong, which sticks, or right, which is kept. The SQL of the table ``feedback``.

A wrong name is kept with the sighting's embedding, sealed: recognition never gives the name to that face again (recognize/rules). The
sighting loses it, for good: later revisions do not bring it back (sightings.rulings). Undoing gives everything back.
"""

import contextlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from core.errors import ConflictError, NotFoundError
from core.ports import Database
from core.sealing import SealedColumn
from core.types import F32
from core.vault import label_of
from sightings.alerts_acts import Actor
from sightings.alerts_acts import Feedback as AlertFeedback
from sightings.cursor import Cursor
from sightings.locks import LOCK_TO_STORE
from sightings.record import StoredAlert, required_id
from sightings.scope import EVERYTHING, Scope
from sightings.taking import Renamed, Said, Taken, give_name, take_name

Verdict = Literal["wrong_person", "right_person"]
MAX_PAGE = 500
SEALED = (
    SealedColumn(table="feedback", key="feedback_id", column="embedding", label=lambda row: label_of("exemplar", row["feedback_id"])),
)
"""Every sealed column of this table."""

# of the alias f, or s; the arguments are collections and camera groups
_IN_SCOPE = """
($1::text[] is null or {0}.collection = any($1))
and ($2::text[] is null or exists (select from camera c where c.name = {0}.camera and c.groups && $2))
"""
_SIGHTING = f"""
select s.sighting_id, s.camera, s.collection, s.model, s.embedding, s.outcome, s.subject_id, s.reference_id, s.score, s.threshold,
       s.quality, s.revision
from sighting s where {_IN_SCOPE.format("s")} and s.sighting_id = $3
"""
_SELECT = """
select f.feedback_id, f.sighting_id, f.subject_id, g.name as subject, f.verdict, f.reference_id, f.camera, f.collection, f.model, f.score,
       f.threshold, f.renamed, f.alerts, f.reason, f.actor, f.created_at
from feedback f join subject g using (subject_id)
"""
_PAIR = _SELECT + f"where {_IN_SCOPE.format('f')} and f.sighting_id = $3 and ($4::uuid is null or f.subject_id = $4) and f.verdict = $5"
_PAGE = f"""
{_SELECT} where {_IN_SCOPE.format("f")} and ($3::uuid is null or f.subject_id = $3) and ($4::uuid is null or f.sighting_id = $4)
and ($5::text is null or f.verdict = $5) and ($6::timestamptz is null or (f.created_at, f.feedback_id) < ($6, $7::uuid))
order by f.created_at desc, f.feedback_id desc limit $8
"""
_ADD = """
insert into feedback (feedback_id, sighting_id, subject_id, verdict, reference_id, camera, collection, model, score, threshold, embedding,
                      renamed, alerts, reason, actor)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""
_FORGET = """
delete from feedback
where subject_id = $1 or sighting_id in (select sighting_id from sighting where subject_id = $1)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedFace:
    """A sighting as a person judges its name."""

    sighting_id: str
    camera: str
    collection: str
    model: str
    subject_id: str | None
    """Whom it names."""
    quality: float
    embedding: F32 | None
    """(D,) float32; None once it was erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What somebody said of a name."""

    feedback_id: str
    sighting_id: str
    subject_id: str
    subject: str
    verdict: Verdict
    reference_id: str | None
    """The reference that fired."""
    camera: str
    collection: str
    score: float | None
    reason: str
    actor: str
    created_at: datetime


class FeedbackStore:
    """The table ``feedback``. What is not granted is as if it were not there. Thread rule: one event loop; any number of processes."""

    def __init__(self, db: Database, *, episode_gap: timedelta, scope: Scope = EVERYTHING) -> None:
        self._db = db
        self._gap = episode_gap
        collections, _, groups = scope.lists()
        self._scope = (collections, groups)

    async def face(self, sighting_id: str) -> JudgedFace:
        """Return the face that is judged. Raises NotFoundError."""
        row = await self._sighting(self._db, sighting_id)
        sealed = row["embedding"]
        opened = self._db.vault.open(sealed, label=label_of("sighting embedding", row["sighting_id"])) if sealed else None
        return JudgedFace(
            sighting_id=str(row["sighting_id"]),
            camera=row["camera"],
            collection=row["collection"],
            model=row["model"],
            subject_id=row["subject_id"] and str(row["subject_id"]),
            quality=row["quality"],
            embedding=None if opened is None else np.frombuffer(opened, "<f4").astype(np.float32),
        )

    async def wrong_person(self, sighting_id: str, subject_id: str, said: Said, after: Renamed | None = None) -> Feedback:
        """Keep that a sighting is not a subject; if it has that name, it loses it, with the alerts that follow from it.

        Saying it again changes nothing.

        Args:
            sighting_id: which.
            subject_id: who it is not.
            said: by whom, and why.
            after: what the sighting becomes; None = a stranger.

        Raises:
            NotFoundError: no such sighting, or no such subject in its collection. ConflictError: its embedding was erased.
        """
        async with self._db.transaction() as tx:
            row = await self._locked(tx, sighting_id)
            key = await _subject(tx, subject_id, row["collection"])
            if known := await tx.fetch(_PAIR, *self._scope, row["sighting_id"], key, "wrong_person"):
                return _feedback(known[0])
            if row["embedding"] is None:
                raise ConflictError(f"sighting {sighting_id}: its embedding was erased, so there is nothing to remember of the face")
            await tx.execute("delete from feedback where sighting_id = $1 and subject_id = $2", row["sighting_id"], key)
            feedback_id = uuid.uuid4()
            opened = tx.vault.open(row["embedding"], label=label_of("sighting embedding", row["sighting_id"]))
            sealed = tx.vault.seal(opened, label=label_of("exemplar", feedback_id))
            taken = await take_name(tx, row, said, after or Renamed(), self._gap) if row["subject_id"] == key else Taken()
            await _add(tx, feedback_id, "wrong_person", row, key, said, sealed, taken)
            await taken.tell(tx)
            return _feedback((await tx.fetch(_SELECT + "where f.feedback_id = $1", feedback_id))[0])

    async def undo(self, sighting_id: str, subject_id: str | None, said: Said) -> Feedback:
        """Take back that a name is wrong: the sighting gets it again, with its alerts as they were, and the face may have it.

        Args:
            sighting_id: which.
            subject_id: of whom it was said; None = of whomever, when it was said of one.
            said: by whom it is taken back.

        Raises:
            NotFoundError: nobody said so. ConflictError: it was said of several subjects; name one.
        """
        key = required_id("sighting", sighting_id)
        async with self._db.transaction() as tx:
            rows = await tx.fetch(_PAIR, *self._scope, key, subject_id and uuid.UUID(subject_id), "wrong_person")
            if not rows:
                raise NotFoundError(f"sighting {sighting_id}: nobody said that its name is wrong")
            if len(rows) > 1:
                raise ConflictError(
                    f"sighting {sighting_id}: {len(rows)} names were said to be wrong; say with subject_id which to give back"
                )
            row = rows[0]
            await tx.fetch(LOCK_TO_STORE, [row["camera"]])
            if not await tx.execute("delete from feedback where feedback_id = $1", row["feedback_id"]):
                raise NotFoundError(f"sighting {sighting_id}: nobody says any more that its name is wrong")
            given = await give_name(tx, row, said, self._gap)
            await given.tell(tx)
        return _feedback(row)

    async def confirm(self, sighting_id: str, said: Said) -> Feedback:
        """Keep that a sighting's name is right. Raises NotFoundError; ConflictError: it has no name."""
        async with self._db.transaction() as tx:
            row = await self._locked(tx, sighting_id)
            if row["subject_id"] is None:
                raise ConflictError(f"sighting {sighting_id}: has no name that could be right")
            await _subject(tx, str(row["subject_id"]), row["collection"])
            feedback_id = uuid.uuid4()
            await tx.execute("delete from feedback where sighting_id = $1 and subject_id = $2", row["sighting_id"], row["subject_id"])
            await _add(tx, feedback_id, "right_person", row, row["subject_id"], said, None, Taken())
            return _feedback((await tx.fetch(_SELECT + "where f.feedback_id = $1", feedback_id))[0])

    async def query(
        self,
        *,
        subject_id: str | None = None,
        sighting_id: str | None = None,
        verdict: Verdict | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> tuple[list[Feedback], str | None]:
        """Return a page of what was said, newest first, and the cursor of the next page (None at the end).

        Raises:
            UsageError: a cursor that is none of ours.
        """
        limit = max(1, min(limit, MAX_PAGE))
        behind = Cursor.decode(cursor) if cursor else None
        rows = await self._db.fetch(
            _PAGE,
            *self._scope,
            subject_id and uuid.UUID(subject_id),
            sighting_id and uuid.UUID(sighting_id),
            verdict,
            behind and behind.at,
            behind and behind.row_id,
            limit + 1,
        )
        last = rows[limit - 1] if len(rows) > limit else None
        return [_feedback(row) for row in rows[:limit]], Cursor(last["created_at"], last["feedback_id"]).encode() if last else None

    async def _sighting(self, db: Database, sighting_id: str) -> dict[str, Any]:
        rows = await db.fetch(_SIGHTING, *self._scope, required_id("sighting", sighting_id))
        if not rows:
            raise NotFoundError(f"sighting {sighting_id}: there is none")
        return rows[0]

    async def _locked(self, tx: Database, sighting_id: str) -> dict[str, Any]:
        """Return a sighting with its camera's writers kept out until the transaction ends."""
        await tx.fetch(LOCK_TO_STORE, [(await self._sighting(tx, sighting_id))["camera"]])
        return await self._sighting(tx, sighting_id)


def feedback_of_alerts(episode_gap: timedelta) -> AlertFeedback:
    """Return what follows when an alert is rejected or reopened: the sighting that it shows loses the name, or gets it back."""

    async def prepare(tx: Database, alert_id: uuid.UUID) -> None:
        rows = await tx.fetch("select camera from alert where alert_id = $1", alert_id)
        await tx.fetch(LOCK_TO_STORE, [row["camera"] for row in rows])

    async def wrong(tx: Database, alert: StoredAlert, who: Actor) -> None:
        if alert.sighting_id is None or alert.subject_id is None:
            return
        with contextlib.suppress(NotFoundError, ConflictError):  # the sighting is too old: the alert alone is rejected
            await FeedbackStore(tx, episode_gap=episode_gap).wrong_person(alert.sighting_id, alert.subject_id, _said(who))

    async def undone(tx: Database, alert: StoredAlert, who: Actor) -> None:
        if alert.sighting_id is None or alert.subject_id is None:
            return
        with contextlib.suppress(NotFoundError):  # it was undone by itself
            await FeedbackStore(tx, episode_gap=episode_gap).undo(alert.sighting_id, alert.subject_id, _said(who))

    return AlertFeedback(prepare=prepare, wrong_person=wrong, undone=undone)


def _said(who: Actor) -> Said:
    return Said(actor=who.actor, name=who.name, reason="alert")


async def forget_feedback(tx: Database, subject_id: uuid.UUID) -> int:
    """Erase what was said of a subject's name, and exemplars of the subject's own face; before the sightings lose the name."""
    return await tx.execute(_FORGET, subject_id)


async def forget_judged(tx: Database, sightings: Sequence[uuid.UUID]) -> None:
    """Erase what was said of the names of some sightings, with the exemplars of these faces."""
    await tx.execute("delete from feedback where sighting_id = any($1::uuid[])", list(sightings))


async def _add(
    tx: Database,
    feedback_id: uuid.UUID,
    verdict: Verdict,
    row: dict[str, Any],
    key: uuid.UUID,
    said: Said,
    sealed: bytes | None,
    taken: Taken,
) -> None:
    same = [row[name] for name in ("camera", "collection", "model", "score", "threshold")]
    reference_id = row["reference_id"] if row["subject_id"] == key else None
    await tx.execute(
        _ADD,
        feedback_id,
        row["sighting_id"],
        key,
        verdict,
        reference_id,
        *same,
        sealed,
        taken.renamed,
        taken.alerts,
        said.reason,
        said.actor,
    )


async def _subject(tx: Database, subject_id: str, collection: str) -> uuid.UUID:
    key = required_id("subject", subject_id)
    if not await tx.fetch("select from subject where subject_id = $1 and collection = $2 for key share", key, collection):
        raise NotFoundError(f"subject '{subject_id}': collection {collection} has none of this id")
    return key


def _feedback(row: dict[str, Any]) -> Feedback:
    text: dict[str, Any] = {name: row[name] and str(row[name]) for name in ("feedback_id", "sighting_id", "subject_id", "reference_id")}
    same = {name: row[name] for name in ("subject", "verdict", "camera", "collection", "score", "reason", "actor", "created_at")}
    return Feedback(**text, **same)
