"""``sightline audit verify``: prove that the audit is as it was written; and how commands add to it."""

import asyncio
import getpass
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli.output import console, emit, run_async
from core.errors import UsageError
from core.settings import Settings

if TYPE_CHECKING:
    from core.audit.store import Verdict
    from core.ports import Database

_ANCHOR = re.compile(r"([0-9]{1,18}):([0-9a-fA-F]{64})")


def verify_chain(settings: Settings, *, since_s: float | None, anchor: str | None, as_json: bool) -> None:
    """Verify, tell what was found, and end with exit code 1 when something is wrong."""
    verdict = run_async(_verify(settings, since_s, parse_anchor(anchor) if anchor else None))
    seq, head = verdict.head
    broken = verdict.broken
    if as_json:
        found = broken and {"seq": broken.seq, "fault": broken.fault, "text": broken.text}
        emit(
            {"whole": broken is None, "entries": verdict.entries, "first": verdict.first, "anchor": f"{seq}:{head.hex()}", "broken": found}
        )
    elif broken:
        console().print(f"[red]broken[/] after {verdict.entries:,} sound entries: {broken.text}", highlight=False)
    else:
        console().print(f"[green]whole[/]: {verdict.entries:,} entries, {verdict.first:,} to {seq:,}")
        console().print(f"keep this elsewhere, to prove later that the end was not cut off: --anchor {seq}:{head.hex()}", soft_wrap=True)
    if broken:
        sys.exit(1)


async def _verify(settings: Settings, since_s: float | None, anchor: tuple[int, bytes] | None) -> "Verdict":
    from cli.database import open_database_for
    from core.audit.store import AuditStore

    async with open_database_for(settings) as db:
        since = None if since_s is None else datetime.fromtimestamp(since_s, UTC)
        return await AuditStore(db).verify(since=since, anchor=anchor)


def parse_anchor(text: str) -> tuple[int, bytes]:
    """Read ``SEQ:HASH``. Raises UsageError for anything else."""
    found = _ANCHOR.fullmatch(text)
    if found is None:
        raise UsageError("--anchor: expected SEQ:HASH as 'audit verify' prints it and the log of the API keeps it")
    return int(found[1]), bytes.fromhex(found[2])


async def keep_command(db: "Database", action: str, *targets: str, outcome: int = 0, **facts: Any) -> None:
    """Keep in the audit what a command reads or changes of people, before it tells or right after it did.

    Args:
        db: the deployment's database.
        action: as of the API's route that does the same.
        targets: ids that it is about.
        outcome: 0 = done, 1 = failed.
        facts: counts and ids; no names.

    Raises:
        UnavailableError: it can't be kept, so nothing may be shown.
    """
    import msgspec

    from core.audit.chain import Draft
    from core.audit.store import AuditStore

    draft = Draft(
        actor=f"cli:{await asyncio.to_thread(_os_user)}",
        actor_name="command line",
        role="admin",
        action=action,
        targets=targets[:100],
        outcome=outcome,
        details=msgspec.json.encode(facts, order="sorted").decode(),
    )
    await AuditStore(db).append([draft])


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
