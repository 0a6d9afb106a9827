"""Changes of what is recorded of a subject; the matchers learn those that concern them with the same commit."""

from collections.abc import Mapping
from typing import Any

from core.errors import ConflictError, NotFoundError, StaleError
from core.events import tell
from core.ports import Database
from enrollment.changes import tell_subject
from enrollment.record import (
    Subject,
    SubjectChange,
    SubjectDetails,
    check_attributes,
    check_collection,
    check_consent,
    check_text,
    clean_name,
)
from enrollment.rows import SUBJECTS, subject_of, uuid_or_nothing

_UPDATE = """
update subject set name = $2, external_id = $3, notes = $4, attributes = $5, consent = $6, valid_from = $7, expires_at = $8,
    version = version + 1
where subject_id = $1
"""
_TAKEN = """
select name = $2 as name from subject where collection = $1 and (name = $2 or external_id = $3) and subject_id is distinct from $4
order by 1 desc limit 1
"""


async def change_subject(tx: Database, subject_id: str, change: SubjectChange, *, version: int | None = None) -> tuple[Subject, int | None]:
    """Change a subject inside a transaction.

    Args:
        tx: the transaction; nothing else may follow in it, for the event that is told last makes others wait.
        subject_id: whose.
        change: what to change; fields that are absent stay.
        version: that the subject must have; None = any.

    Returns:
        The subject as it is now, and the gallery's generation if the matchers must learn of it.

    Raises:
        NotFoundError, StaleError: no such subject; it has another version. ConflictError: the name or external id is taken.
        UsageError: a value that can't be.
    """
    before = await locked_subject(tx, subject_id)
    if version is not None and before.version != version:
        raise StaleError(f"subject {subject_id}: has version {before.version}, not {version}; read it again")
    after = _values(before, change)
    await check_free(tx, before.collection, after["name"], after["external_id"], besides=subject_id)
    await tx.execute(_UPDATE, subject_id, *(after[name] for name in _COLUMNS))
    subject = subject_of((await tx.fetch(SUBJECTS + "where s.subject_id = $1", subject_id))[0])
    generation = None
    if _matched(subject) != _matched(before):
        generation = await tell_subject(tx, collection=subject.collection, subject_id=subject_id)
    await tell(tx, "gallery", [(subject_id, subject.version)], collection=subject.collection)
    return subject, generation


async def enter_subject(tx: Database, name: str, collection: str, details: SubjectDetails, *, new: bool = False) -> Subject:
    """Return a subject by name, made with its collection if new, with details merged into it; locked against erasure.

    Raises:
        ConflictError: it must be ``new`` and is there, was erased or renamed at this moment, or the external id is taken.
        UsageError: a value that can't be.
    """
    await tx.execute("insert into collection (name) values ($1) on conflict do nothing", check_collection(collection))
    made = await tx.execute(
        "insert into subject (collection, name) values ($1, $2) on conflict (collection, name) do nothing", collection, name
    )
    if new and not made:
        raise ConflictError(f"subject '{name}': is already in collection {collection}")
    rows = await tx.fetch(SUBJECTS + "where s.collection = $1 and s.name = $2 for key share of s", collection, name)
    if not rows:
        raise ConflictError(f"subject '{name}': was erased or renamed at this moment; try again")
    subject = subject_of(rows[0])
    change = details_change(details)
    if all(getattr(subject, column) == value for column, value in _values(subject, change).items()):
        return subject
    return (await change_subject(tx, subject.subject_id, change))[0]


async def locked_subject(tx: Database, subject_id: str, *, share: bool = False) -> Subject:
    """Return a subject that nobody else changes (``share``: erases) until the transaction ends. Raises NotFoundError."""
    lock = "for key share of s" if share else "for update of s"
    rows = await tx.fetch(SUBJECTS + f"where s.subject_id = $1 {lock}", uuid_or_nothing(subject_id))
    if not rows:
        raise NotFoundError(f"subject '{subject_id[:80]}': there is none; 'sightline subjects list' shows all")
    return subject_of(rows[0])


async def check_free(tx: Database, collection: str, name: str, external_id: str | None, *, besides: str | None = None) -> None:
    """Refuse a name or external id that another subject of the collection has. Raises ConflictError."""
    rows = await tx.fetch(_TAKEN, collection, name, external_id, besides)
    if rows and rows[0]["name"]:
        raise ConflictError(f"subject '{name}': is already in collection {collection}; choose another name")
    if rows:
        raise ConflictError(f"external id '{external_id}': belongs to another subject of collection {collection}")


def details_change(details: SubjectDetails) -> SubjectChange:
    """Return details as a change: what is not given stays."""
    change: SubjectChange = {}
    if details.attributes:
        change["attributes"] = details.attributes
    if details.consent is not None:
        change["consent"] = details.consent
    if details.expires_at is not None:
        change["expires_at"] = details.expires_at
    if details.valid_from is not None:
        change["valid_from"] = details.valid_from
    if details.external_id is not None:
        change["external_id"] = details.external_id
    if details.notes is not None:
        change["notes"] = details.notes
    return change


_COLUMNS = ("name", "external_id", "notes", "attributes", "consent", "valid_from", "expires_at")


def _values(before: Subject, change: SubjectChange) -> dict[str, Any]:
    """Return the columns as they will be."""
    values: dict[str, Any] = {name: getattr(before, name) for name in _COLUMNS} | dict(change)
    values["name"] = clean_name(values["name"])
    values["attributes"] = (
        check_attributes(_patched(before.attributes, change["attributes"])) if "attributes" in change else before.attributes
    )
    if change.get("consent") is not None:
        values["consent"] = check_consent(_patched(before.consent, change["consent"]))
    for name in ("external_id", "notes"):
        values[name] = values[name] and check_text(name, values[name])
    return values


def _patched(before: Mapping[str, Any] | None, patch: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a JSON merge patch's result (RFC 7396, one level deep): None takes a field away."""
    merged = {**(before or {}), **patch} if patch is not None else {}
    return {name: value for name, value in merged.items() if value is not None}


def _matched(subject: Subject) -> tuple[Any, ...]:
    """Return what the matchers know of a subject."""
    return subject.name, subject.valid_from, subject.ends_at
