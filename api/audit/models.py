"""Queries and answers about the audit."""

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field, JsonValue

from api.models import Answer, Instant, Limit, Query
from core.audit.chain import Entry

_EXAMPLE: dict[str, JsonValue] = {
    "seq": 4711,
    "at": "2026-05-01T08:00:00.123456Z",
    "actor": "key:3f0e6f4e-7a30-4f5e-9a55-0d6f7d3f2a11",
    "actor_name": "front desk",
    "role": "operator",
    "action": "search.photo",
    "targets": ["11111111-1111-4111-8111-111111111111"],
    "purpose": "lost child",
    "outcome": 200,
    "request_id": "7d3f2a11",
    "client": "10.0.0.9",
    "details": {"faces": 1},
    "hash": "5f" * 32,
}


class AuditQuery(Query):
    """Which entries of the audit."""

    actor: Annotated[str | None, Field(pattern=r"^[!-~]{1,200}$", description="Kind and id, such as `key:<uuid>`.")] = None
    action: Annotated[str | None, Field(pattern=r"^[a-z0-9._-]{1,64}$", description="Such as `subject.read`.")] = None
    target: Annotated[str | None, Field(pattern=r"^[!-~]{1,64}$", description="Id of a subject, sighting, reference ...")] = None
    since: Annotated[Instant | None, Field(description="At or after it; RFC 3339 with offset, or Unix seconds.")] = None
    until: Annotated[Instant | None, Field(description="Before it.")] = None
    limit: Limit = 50
    cursor: Annotated[str | None, Field(pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the page before.")] = None


class AuditEntry(Answer):
    """One entry of the audit."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    seq: int = Field(description="Without gaps.")
    at: datetime = Field(description="By the database's clock.")
    actor: str
    actor_name: str
    role: str
    action: str
    targets: list[str] = Field(description="Ids that it was about.")
    purpose: str
    outcome: int = Field(description="HTTP status; of commands 0 = done, 1 = failed.")
    request_id: str
    client: str = Field(description="Address that asked.")
    details: dict[str, Any] = Field(description="Ids, counts, settings of a search; `repeated` = so many more like it.")
    hash: str = Field(description="Hex; with `seq` it is an anchor for `sightline audit verify --anchor SEQ:HASH`.")

    @classmethod
    def of(cls, entry: Entry) -> "AuditEntry":
        """Return an entry as the API shows it."""
        draft = entry.draft
        same = {name: getattr(draft, name) for name in cls.model_fields if name not in ("seq", "at", "targets", "details", "hash")}
        return cls(**same, seq=entry.seq, at=entry.at, targets=list(draft.targets), details=facts(draft.details), hash=entry.hash.hex())


class AuditPage(Answer):
    """Entries, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None


def facts(text: str) -> dict[str, Any]:
    """Return the details of an entry; of one that somebody has tampered with as much as can be read."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": text[:200]}
