"""Finding subjects: the filters of lists. Every value is an argument, none becomes SQL."""

from typing import Any, Final

import msgspec

from core.ports import Database
from enrollment.record import ConsentState, Subject, SubjectFilter
from enrollment.rows import SUBJECTS, subject_of

MAX_PAGE: Final = 1000
_CONSENT: Final[dict[ConsentState, str]] = {
    "none": "s.consent is null",
    "withdrawn": "consent_time(s.consent, 'withdrawn_at') <= now()",
    "expired": "consent_time(s.consent, 'expires_at') <= now() and not coalesce(consent_time(s.consent, 'withdrawn_at') <= now(), false)",
    "given": (
        "s.consent is not null and not coalesce(consent_time(s.consent, 'withdrawn_at') <= now(), false) "
        "and not coalesce(consent_time(s.consent, 'expires_at') <= now(), false)"
    ),
}


async def find_subjects(db: Database, collection: str, wanted: SubjectFilter, *, after: str = "", limit: int = MAX_PAGE) -> list[Subject]:
    """Return a page of the subjects of a collection by name: those whose name sorts after ``after``."""
    parts, args = ["s.collection = $1", "s.name > $2"], [collection, after, max(1, min(limit, MAX_PAGE))]

    def add(part: str, value: Any) -> None:
        args.append(value)
        parts.append(part.format(f"${len(args)}"))

    if wanted.name_prefix:
        add("starts_with(s.name, {})", wanted.name_prefix)
    if wanted.name_contains:
        add("strpos(lower(s.name), lower({})) > 0", wanted.name_contains)
    if wanted.external_id is not None:
        add("s.external_id = {}", wanted.external_id)
    if wanted.attribute is not None:
        add("s.attributes @> any({}::jsonb[])", [{wanted.attribute[0]: value} for value in _spellings(wanted.attribute[1])])
    if wanted.consent is not None:
        parts.append(f"({_CONSENT[wanted.consent]})")
    if wanted.expired is not None:
        parts.append("s.ends_at <= now()" if wanted.expired else "(s.ends_at is null or s.ends_at > now())")
    rows = await db.fetch(SUBJECTS + f"where {' and '.join(parts)} order by s.name limit $3", *args)
    return [subject_of(row) for row in rows]


def _spellings(text: str) -> list[Any]:
    """Return what a value may be in JSON that people write as this text: the text, and the number or truth value it spells."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return [text]
    return [text, value] if isinstance(value, int | float | bool) and abs(value) < 1 << 63 else [text]
