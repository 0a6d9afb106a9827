"""Entries for the audit, and somebody who tampers with it."""

from typing import Any

from core.audit.chain import Draft
from core.audit.store import AuditStore
from core.audit.trail import AuditTrail
from core.metrics import Metrics
from core.ports import Database


def draft(number: int = 0, **changes: Any) -> Draft:
    given: dict[str, Any] = {
        "actor": f"key:{number}",
        "actor_name": "front desk",
        "role": "operator",
        "action": "subject.read",
        "targets": (f"subject-{number}",),
        "purpose": "lost child",
        "outcome": 200,
        "request_id": f"r{number}",
        "client": "10.0.0.9",
        "details": '{"faces":1}',
    }
    return Draft(**(given | changes))


def trail(db: Database, **options: Any) -> AuditTrail:
    return AuditTrail(AuditStore(db), Metrics(), **options)


async def tamper(db: Database, *statements: str) -> None:
    """Change the audit as the database's superuser can: no trigger stops him."""
    async with db.transaction() as tx:
        await tx.execute("set local session_replication_role = replica")
        for statement in statements:
            await tx.execute(statement)
