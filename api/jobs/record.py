"""The values of this area: jobs and their items."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from core.sealing import SealedColumn

Kind = Literal["import", "recognize"]
JobState = Literal["queued", "running", "succeeded", "partial", "failed", "cancelled"]
ItemState = Literal["waiting", "done", "rejected", "set_apart"]
OPEN: Final = ("queued", "running")

SEALED: Final = (
    SealedColumn(table="job_item", key="job_id, seq", column="result", label=lambda row: result_label(row["job_id"], row["seq"])),
    SealedColumn(table="job", key="job_id", column="callback", label=lambda row: callback_label(row["job_id"])),
)
"""Every sealed column of this area."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is."""

    job_id: uuid.UUID
    kind: Kind
    state: JobState
    collection: str
    params: dict[str, Any]
    uploads: list[uuid.UUID]
    listed: bool
    total: int
    done: int
    rejected: int
    set_apart: int
    reason: str
    crashes: int
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that a job does."""

    seq: int
    state: ItemState
    input: dict[str, Any]
    subject: str | None
    attempts: int
    reason: str
    detail: str
    result: dict[str, Any] | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """One thing to do."""

    input: Mapping[str, Any]
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of an item."""

    seq: int
    state: ItemState
    """``waiting``: it is tried again after ``delay_s``."""
    reason: str = ""
    detail: str = ""
    result: Mapping[str, Any] | None = None
    subject_ids: tuple[str, ...] = field(default=())
    """Whom the result names: their erasure finds it."""
    delay_s: float = 0.0


def result_label(job_id: uuid.UUID, seq: int) -> str:
    """Return the label under which a result is sealed."""
    return f"job result {job_id.hex} {seq}"


def callback_label(job_id: uuid.UUID) -> str:
    """Return the label under which a callback is sealed."""
    return f"job callback {job_id.hex}"


def results_key(job_id: uuid.UUID) -> str:
    """Return where a job's results are in object storage."""
    return f"jobs/{job_id}/results.jsonl"
