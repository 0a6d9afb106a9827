"""Keeping entries fast: requests that come at the same time share one transaction (group commit)."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import structlog

from core.audit.chain import Draft
from core.audit.store import AuditStore
from core.errors import SightlineError, UnavailableError
from core.metrics import Metrics

AT_ONCE: Final = 512
"""Entries of one transaction at most: some 200 KB."""
WAITING: Final = 8192
"""Entries that may wait for the database; more are refused, and with them what they would be about."""
REFUSED_S: Final = 60.0
"""Refusals of nobody in particular that are alike are one entry for so long, and then one with their number."""
REFUSED_KINDS: Final = 256
"""Kinds of such refusals that are told apart; what comes beyond is counted together."""
ANCHOR_S: Final = 600.0
"""How often the head of the chain is told to the process log, while there are new entries."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Slot:
    draft: Draft
    done: bool = False
    error: UnavailableError | None = None


@dataclass(slots=True)
class _Refused:
    draft: Draft
    count: int = 0


class AuditTrail:
    """Appends to the chain. Thread rule: one event loop."""

    def __init__(self, store: AuditStore, metrics: Metrics, *, now_s: Callable[[], float] | None = None) -> None:
        """Take the store.

        Args:
            store: where the chain is.
            metrics: of the process.
            now_s: a clock that only goes forward; the event loop's by default.
        """
        self.store: Final = store
        self._metrics = metrics
        self._now_s = now_s or (lambda: asyncio.get_running_loop().time())
        self._turn = asyncio.Lock()
        self._waiting: list[_Slot] = []
        self._refused: OrderedDict[tuple[str, str, int], _Refused] = OrderedDict()
        self._refused_due_s = 0.0
        self._anchor_due_s = float("-inf")

    async def keep(self, *drafts: Draft) -> None:
        """Return once entries are durable.

        Whoever comes while another writes waits, and the next to write takes all that wait along.

        Raises:
            UnavailableError: they are not kept.
        """
        if len(self._waiting) + len(drafts) > WAITING:
            self._metrics.audit_failures.inc(len(drafts))
            raise UnavailableError(f"audit: {len(self._waiting)} entries wait for the database; try again in a moment")
        slots = [_Slot(draft) for draft in (*self._due_refusals(), *drafts)]
        self._waiting += slots
        writing = asyncio.ensure_future(self._written(slots))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:  # a client left, or the server stops: what happened has happened, so it is kept all the same
            await asyncio.wait({writing})
            raise

    async def refuse(self, draft: Draft) -> None:
        """Keep a refusal of nobody in particular: the first of a kind at once, those like it together when a minute is over.

        So nobody can fill the disk, or keep the database busy, by asking without a key. Raises UnavailableError.
        """
        due = self._due_refusals()
        kind = (draft.action, draft.client, draft.outcome)
        if kind not in self._refused and len(self._refused) >= REFUSED_KINDS:
            kind = ("", "", draft.outcome)
            draft = replace(draft, action="several", client="several", targets=(), request_id="")
        seen = self._refused.get(kind)
        if seen is None:
            if not self._refused:
                self._refused_due_s = self._now_s() + REFUSED_S
            self._refused[kind] = _Refused(draft)
            await self.keep(*due, draft)
        else:  # and nothing was due: that would have cleared the counts
            seen.count += 1

    async def close(self) -> None:
        """Keep what is counted and not yet kept."""
        self._refused_due_s = float("-inf")
        if drafts := self._due_refusals():
            await self.keep(*drafts)

    def _due_refusals(self) -> Sequence[Draft]:
        if not self._refused or self._now_s() < self._refused_due_s:
            return ()
        due = [
            replace(one.draft, targets=(), request_id="", details=msgspec.json.encode({"repeated": one.count}).decode())
            for one in self._refused.values()
            if one.count
        ]
        self._refused.clear()
        return due

    async def _written(self, slots: Sequence[_Slot]) -> None:
        while not all(slot.done for slot in slots):
            async with self._turn:
                if not all(slot.done for slot in slots):
                    await self._write()
        if errors := [slot.error for slot in slots if slot.error]:
            raise errors[0]

    async def _write(self) -> None:
        batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        try:
            with self._metrics.audit_seconds.time():
                seq, head = await self.store.append([slot.draft for slot in batch])
        except SightlineError as err:
            self._fail(batch, str(err) if isinstance(err, UnavailableError) else type(err).__name__)
            return
        except BaseException as err:  # a fault of ours, or the loop ends: whoever waits for this batch is told, or would wait for ever
            self._fail(batch, type(err).__name__)  # whose text would tell a row
            raise
        for slot in batch:
            slot.done = True
        self._metrics.audit_entries.inc(len(batch))
        self._tell_anchor(seq, head)

    def _fail(self, batch: Sequence[_Slot], reason: str) -> None:
        self._metrics.audit_failures.inc(len(batch))
        for slot in batch:
            slot.done, slot.error = True, UnavailableError(f"audit: this can't be kept, so it is not answered: {reason}")

    def _tell_anchor(self, seq: int, head: bytes) -> None:
        """Tell the head of the chain where the database's owner can't change it. A warning only so that every level keeps it."""
        if self._now_s() >= self._anchor_due_s:
            self._anchor_due_s = self._now_s() + ANCHOR_S
            _log.warning("audit anchor", anchor=f"{seq}:{head.hex()}")
