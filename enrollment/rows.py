"""How subjects and references come out of the database. Pure."""

import uuid
from typing import Any

from enrollment.record import Reference, Subject, clean_name

SUBJECTS = """
select s.subject_id, s.collection, s.name, s.attributes, s.consent, s.expires_at, s.created_at, s.external_id, s.notes, s.valid_from,
       s.ends_at, s.version, (select count(*) from reference r where r.subject_id = s.subject_id) as reference_count
from subject s
"""
REFERENCES = """
select r.reference_id, r.subject_id, r.source, r.quality, r.quality_reasons, r.created_at,
       array(select e.model from reference_embedding e where e.reference_id = r.reference_id order by e.model) as models
from reference r
"""
_SAME = ("collection", "name", "attributes", "consent", "expires_at", "created_at", "external_id", "notes", "valid_from", "ends_at")


def subject_of(row: dict[str, Any]) -> Subject:
    """Read a row of SUBJECTS."""
    same = {name: row[name] for name in _SAME}
    return Subject(subject_id=str(row["subject_id"]), references=row["reference_count"], version=row["version"], **same)


def reference_of(row: dict[str, Any]) -> Reference:
    """Read a row of REFERENCES."""
    return Reference(
        reference_id=str(row["reference_id"]),
        subject_id=str(row["subject_id"]),
        source=row["source"],
        quality=row["quality"],
        quality_reasons=tuple(row["quality_reasons"]),
        created_at=row["created_at"],
        models=tuple(row["models"]),
    )


def uuid_or_nothing(text: str) -> uuid.UUID | None:
    """Return the id that a text spells, or None."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def name_or_nothing(key: str) -> str | None:
    """Return the name that a text spells, or None."""
    return clean_name(key) if key.strip() and "\x00" not in key and len(key) <= 200 else None
