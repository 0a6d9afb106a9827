"""Many embeddings at a time: references that another system has computed come over without their photos.

A batch is judged together and stored in one transaction with contiguous generations: thousands a second instead of dozens. What came over
so has no picture: a new model can't embed it again, and consoles have nothing to show.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from core.errors import UnavailableError, UsageError
from core.events import tell
from core.metrics import Metrics
from core.ports import Database, Matcher
from core.types import F32
from core.vault import label_of, seal_embedding
from embed.calibration import Calibration
from enrollment.changes import tell_batch
from enrollment.changing import enter_subject
from enrollment.record import Outcome, Reason, SubjectDetails, check_attributes, check_collection, clean_name
from enrollment.references import reference_id_of
from enrollment.service import LOOKALIKE_FPIR, EnrollOptions

BATCH: Final = 500  # embeddings a transaction: 1 MB of 512 floats; the gallery's lock is held for about 0.1 s
MIN_DIMENSIONS, MAX_DIMENSIONS = 32, 4096
QUALITY_UNKNOWN: Final = 1.0  # nobody has seen the face; it was good enough for the system it comes from

_KNOWN = """
select r.content_sha256, s.name, r.reference_id, s.subject_id, r.source
from reference r join subject s using (subject_id)
where r.content_sha256 = any($1::bytea[]) and s.collection = $2
order by r.created_at desc
"""
_ADD_SUBJECTS = """
insert into subject (collection, name, attributes, consent, valid_from, expires_at)
select $1, t.name, t.attributes, $4, $5, $6 from unnest($2::text[], $3::jsonb[]) t (name, attributes)
on conflict (collection, name) do nothing
returning subject_id, name, version
"""
_SUBJECTS = """
select subject_id, name, version from subject where collection = $1 and name = any($2::text[]) order by subject_id for key share
"""
_ADD_REFERENCES = """
insert into reference (reference_id, subject_id, content_sha256, source, face_jpeg, landmarks, quality, quality_reasons)
select t.*, array_fill(0::real, array[10]), $6, '{}'
from unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::text[], $5::bytea[]) t
on conflict (reference_id) do nothing returning reference_id
"""
_ADD_EMBEDDINGS = """
insert into reference_embedding (reference_id, model, embedding)
select t.reference_id, $2, t.embedding from unnest($1::uuid[], $3::bytea[]) t (reference_id, embedding)
on conflict (reference_id, model) do nothing returning reference_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precomputed:
    """A reference that another system has embedded."""

    source: str
    """File or id over there: kept as the reference's source."""
    subject: str
    vector: F32
    """(D,) float32, of any length above zero."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why it can't be used, where it could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What embeddings can be compared with."""

    model: str
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One that may be stored."""

    place: int
    given: Precomputed
    subject: str
    vector: F32
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkEnroller:
    """Puts embeddings into the gallery. Thread rule: one event loop."""

    matcher: Matcher
    calibration: Calibration
    model: str
    """The model in use here: only for its embeddings it is known which score means another person."""
    metrics: Metrics | None = None

    async def judge(self, db: Database, batch: Sequence[Precomputed], *, space: "Space", options: EnrollOptions) -> "Judged":
        """Say of each embedding whether it may be stored; nothing is stored.

        Args:
            db: the database.
            batch: at most BATCH.
            space: what made them.
            options: where they go.

        Raises:
            UnavailableError: the matcher or the database does not answer. UsageError: the collection's name can't be.
        """
        check_collection(options.collection)
        outcomes: dict[int, Outcome] = {}
        rows: list[_Row] = []
        for place, given in enumerate(batch):
            row = _row(place, given, space)
            if isinstance(row, Outcome):
                outcomes[place] = row
            else:
                rows.append(row)
        rows = await _unknown(db, rows, outcomes, options.collection)
        if rows and space.model == self.model and not options.allow_lookalike:
            rows = await self._without_lookalikes(rows, outcomes, options)
        return Judged(rows=tuple(_once(rows, outcomes)), outcomes=outcomes, model=space.model, options=options)

    async def store(self, tx: Database, judged: "Judged", details: SubjectDetails) -> list[Outcome]:
        """Store what may be, inside the given transaction, and return what became of each, in the batch's order.

        The generations of a batch follow each other; wait for the highest before the next batch is judged.
        """
        outcomes = dict(judged.outcomes)
        if judged.rows:
            outcomes |= await _store(tx, judged.rows, judged, details)
        if self.metrics is not None:
            for one in outcomes.values():
                self.metrics.enrollments.labels(outcome=one.reason or one.status).inc()
        return [outcomes[place] for place in sorted(outcomes)]

    async def _without_lookalikes(self, rows: list[_Row], outcomes: dict[int, Outcome], options: EnrollOptions) -> list[_Row]:
        vectors = np.stack([row.vector for row in rows])
        answer = await self.matcher.search(vectors, model=self.model, collection=options.collection, k=2)
        limit = self.calibration.threshold(kind="single", fpir=LOOKALIKE_FPIR, gallery_size=answer.references)
        among = vectors @ vectors.T
        names = np.array([row.subject for row in rows])
        contents = np.array([hash(row.sha256) for row in rows])
        good: list[_Row] = []
        taken = np.zeros(len(rows), bool)
        alike = (among >= limit) & (names[:, None] != names) & (contents[:, None] != contents)
        for number, row in enumerate(rows):
            known = any(c.score >= limit and c.subject != row.subject for c in answer.candidates[number])
            if not known and not alike[number].any():  # nearly all of them
                taken[number] = True
                good.append(row)
                continue
            own = max((c.score for c in answer.candidates[number] if c.subject == row.subject), default=-1.0)
            others = [(c.score, c.subject) for c in answer.candidates[number] if c.subject != row.subject]
            before = among[number] * taken + (taken - 1.0)
            mine = names == row.subject
            before[contents == contents[number]] = -1.0  # copies are told as such
            own = max(own, float(before[mine].max(initial=-1.0)))
            if (~mine).any():
                nearest = int(np.argmax(np.where(mine, -1.0, before)))
                others.append((float(before[nearest]), str(names[nearest])))
            score, other = max(others, default=(-1.0, ""))
            if score >= limit and score > own:
                words = f"looks like {other} ({score:.3f}, alike from {limit:.3f}); if it is that person, use that name"
                outcomes[row.place] = _rejected(row.given, "looks_like_another_subject", words)
                continue
            taken[number] = True
            good.append(row)
        return good


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A batch that was looked at."""

    rows: tuple[_Row, ...]
    outcomes: Mapping[int, Outcome]
    """Of those that are not stored, by their place in the batch."""
    model: str
    options: EnrollOptions


def _row(place: int, given: Precomputed, space: Space) -> _Row | Outcome:
    """Return an embedding ready to store, or why it can't be."""
    if given.problem:
        return _rejected(given, "unsupported", given.problem)
    try:
        subject = clean_name(given.subject)
        check_attributes(given.attributes)
    except UsageError as err:
        return _rejected(given, "unsupported", str(err))
    vector = np.asarray(given.vector, np.float32)
    if len(vector) != space.dimensions:
        words = f"the embedding has {len(vector)} numbers, those of {space.model} have {space.dimensions}"
        return _rejected(given, "unsupported", words)
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(norm) or norm < 1e-6:
        return _rejected(given, "unreadable", "the embedding is zero or not finite; export it again")
    vector = (vector / np.float32(norm)).astype(np.float32)
    sha256 = hashlib.sha256(space.model.encode() + b"\0" + vector.astype("<f4").tobytes()).digest()
    return _Row(place=place, given=given, subject=subject, vector=vector, sha256=sha256)


async def _unknown(db: Database, rows: Sequence[_Row], outcomes: dict[int, Outcome], collection: str) -> list[_Row]:
    """Return the rows that are not in the gallery; the others get their outcome."""
    found = await db.fetch(_KNOWN, [row.sha256 for row in rows], collection)
    known = {bytes(one["content_sha256"]): one for one in found}
    new: list[_Row] = []
    for row in rows:
        one = known.get(row.sha256)
        if one is None:
            new.append(row)
        elif one["name"] != row.subject:
            outcomes[row.place] = _duplicate(row, one["name"])
        else:
            outcomes[row.place] = Outcome(
                file=row.given.source,
                subject=row.subject,
                status="unchanged",
                subject_id=str(one["subject_id"]),
                reference_id=str(one["reference_id"]),
            )
    return new


def _once(rows: Sequence[_Row], outcomes: dict[int, Outcome]) -> list[_Row]:
    """Return each embedding of a batch once; its copies get their outcome."""
    first: dict[bytes, str] = {}
    taken: set[bytes] = set()
    new: list[_Row] = []
    for row in rows:
        name = first.setdefault(row.sha256, row.subject)
        if name != row.subject:
            outcomes[row.place] = _duplicate(row, name)
        elif row.sha256 in taken:
            outcomes[row.place] = _rejected(row.given, "duplicate_of_same_subject", f"{row.subject} has exactly this embedding already")
        else:
            taken.add(row.sha256)
            new.append(row)
    return new


def _duplicate(row: _Row, name: str) -> Outcome:
    words = f"exactly this embedding is enrolled as {name}; use that name, or erase it there first"
    return _rejected(row.given, "duplicate", words)


async def _store(tx: Database, rows: Sequence[_Row], judged: Judged, details: SubjectDetails) -> dict[int, Outcome]:
    """Store new rows, and return their outcomes by place."""
    collection = judged.options.collection
    await tx.execute("insert into collection (name) values ($1) on conflict do nothing", collection)
    subjects = await _enter(tx, rows, collection, details)
    ids = {row.place: reference_id_of(str(subjects[row.subject]["subject_id"]), row.sha256, 0) for row in rows}
    await tx.fetch(
        _ADD_REFERENCES,
        list(ids.values()),
        [subjects[row.subject]["subject_id"] for row in rows],
        [row.sha256 for row in rows],
        [row.given.source for row in rows],
        [tx.vault.seal(b"", label=label_of("face", key)) for key in ids.values()],
        QUALITY_UNKNOWN,
    )
    sealed = [seal_embedding(tx.vault, ids[row.place], row.vector) for row in rows]
    await tx.fetch(_ADD_EMBEDDINGS, list(ids.values()), judged.model, sealed)
    changes = [(subjects[row.subject]["subject_id"], ids[row.place]) for row in rows]
    last = await tell_batch(tx, "put", collection=collection, changes=changes)
    first = last - len(rows) + 1
    await tell(tx, "gallery", [(str(one["subject_id"]), one["version"]) for one in subjects.values()], collection=collection)
    return {
        row.place: Outcome(
            file=row.given.source,
            subject=row.subject,
            status="enrolled",
            quality=None,
            subject_id=str(subjects[row.subject]["subject_id"]),
            reference_id=str(ids[row.place]),
            generation=first + number,
        )
        for number, row in enumerate(rows)
    }


async def _enter(tx: Database, rows: Sequence[_Row], collection: str, details: SubjectDetails) -> dict[str, dict[str, Any]]:
    """Return the subjects by name, made where they are new, with details merged into them; locked against erasure."""
    attributes: dict[str, dict[str, Any]] = {}
    for row in rows:
        attributes.setdefault(row.subject, dict(details.attributes)).update(row.given.attributes)
    names = sorted(attributes)
    consent = None if details.consent is None else dict(details.consent)
    given = [attributes[name] for name in names]
    made = await tx.fetch(_ADD_SUBJECTS, collection, names, given, consent, details.valid_from, details.expires_at)
    new = {row["name"] for row in made}
    for name in names:
        own = replace(details, attributes=attributes[name])
        if name not in new and own != SubjectDetails():
            await enter_subject(tx, name, collection, own)
    found = {row["name"]: row for row in await tx.fetch(_SUBJECTS, collection, names)}
    if len(found) < len(names):
        raise UnavailableError("a subject was erased or renamed at this moment; the batch is tried again")
    return found


def _rejected(given: Precomputed, reason: Reason, detail: str) -> Outcome:
    return Outcome(file=given.source, subject=given.subject, status="rejected", reason=reason, detail=detail)
