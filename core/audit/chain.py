"""The chain of the audit: how an entry is bound to the one before, and how a break is found and named. Pure.

An entry's hash is HMAC-SHA256 over its canonical encoding (a JSON array of all its fields, the hash of the entry before among them) under
a key that is derived from the deployment's secret key. Who can write to the database but has not that key can make no entry that fits.
"""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

GENESIS: Final = bytes(32)
"""Stands for the hash before the first entry."""
KEY_ID_BYTES: Final = 4
SEARCHED: Final = 5000
"""Places on each side where an entry that does not fit is tried: 20 ms, once."""
ONE_US: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Fault = Literal["changed", "removed", "inserted", "reordered", "tail_cut", "head", "checkpoint", "unknown_key", "anchor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is to be kept, before it has its place in the chain."""

    actor: str
    actor_name: str = ""
    role: str = ""
    action: str
    targets: tuple[str, ...] = ()
    purpose: str = ""
    outcome: int
    request_id: str = ""
    client: str = ""
    details: str = "{}"
    """JSON text: hashed and stored as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A draft with its place."""

    seq: int
    at: datetime
    draft: Draft
    key_id: bytes
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where the kept part of the chain begins: everything up to ``seq`` was pruned."""

    seq: int
    hash: bytes
    pruned_at: datetime
    key_id: bytes = b""
    mac: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first thing that is wrong with a chain."""

    seq: int
    fault: Fault
    text: str
    """One line for people."""


class AuditKeys:
    """The keys of the chain, derived from the deployment's secret keys. Immutable; thread rule: any thread."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Take keys of this purpose alone (core.vault.Vault.derived), newest first: that one makes hashes, any of them verifies."""
        self._keys = {_id_of(key): key for key in keys}
        self.newest: Final = _id_of(keys[0])
        """Id of the key that makes hashes."""

    def knows(self, key_id: bytes) -> bool:
        """Tell whether the key of an id is here."""
        return key_id in self._keys

    def mac(self, data: bytes) -> bytes:
        """Return the HMAC-SHA256 under the newest key."""
        return hmac.digest(self._keys[self.newest], data, "sha256")

    def fits(self, key_id: bytes, data: bytes, mac: bytes) -> bool:
        """Tell whether this is the HMAC-SHA256 under a key; nothing fits one that is not here."""
        key = self._keys.get(key_id)
        return key is not None and hmac.compare_digest(hmac.digest(key, data, "sha256"), mac)


def canonical(entry: Entry) -> bytes:
    """Return the one encoding of an entry that its hash is made of."""
    draft = entry.draft
    return msgspec.json.encode(
        [
            entry.seq,
            (entry.at - _EPOCH) // ONE_US,
            draft.actor,
            draft.actor_name,
            draft.role,
            draft.action,
            draft.targets,
            draft.purpose,
            draft.outcome,
            draft.request_id,
            draft.client,
            draft.details,
            entry.key_id.hex(),
            entry.previous.hex(),
        ]
    )


def link(drafts: Iterable[Draft], *, seq: int, previous: bytes, at: datetime, keys: AuditKeys) -> list[Entry]:
    """Return entries that continue a chain whose newest entry has this number and hash."""
    entries: list[Entry] = []
    for number, draft in enumerate(drafts, seq + 1):
        bare = Entry(seq=number, at=at, draft=draft, key_id=keys.newest, previous=previous, hash=b"")
        previous = keys.mac(canonical(bare))
        entries.append(replace(bare, hash=previous))
    return entries


def sign_checkpoint(checkpoint: Checkpoint, keys: AuditKeys) -> Checkpoint:
    """Return a checkpoint that nobody without the key can make."""
    named = replace(checkpoint, key_id=keys.newest)
    return replace(named, mac=keys.mac(_checkpoint_bytes(named)))


class Checker:
    """Follows a chain entry by entry, and says what is wrong first. Feed it in the order of ``seq``."""

    def __init__(
        self, keys: AuditKeys, checkpoint: Checkpoint | None = None, *, anchor: tuple[int, bytes] | None = None, partial: bool = False
    ) -> None:
        """Begin at a checkpoint, or at the first entry.

        Args:
            keys: of the deployment.
            checkpoint: where entries were pruned.
            anchor: number and hash of an entry, as somebody kept them elsewhere.
            partial: the first entry that comes is taken as the beginning, wherever it is.
        """
        self._keys, self._checkpoint, self._anchor, self._partial = keys, checkpoint, anchor, partial
        self.seq = checkpoint.seq if checkpoint else 0
        self.hash = checkpoint.hash if checkpoint else GENESIS
        self.count = 0
        self.first = 0
        """Number of the first entry that was checked; 0 = none."""
        self._held: tuple[Entry, Break] | None = None

    def begin(self) -> Break | None:
        """Check the checkpoint."""
        given = self._checkpoint
        if given is None or self._keys.fits(given.key_id, _checkpoint_bytes(given), given.mac):
            return None
        return Break(seq=given.seq, fault="checkpoint", text=f"the checkpoint at {given.seq} is forged: entries before it were removed")

    def check(self, entry: Entry) -> Break | None:
        """Check one entry; a break that the entry after it explains better is told with that."""
        if self._held:
            return self._explained(entry)
        self.first = self.first or entry.seq
        if self._partial:
            self._partial, self.seq, self.hash = False, entry.seq - 1, entry.previous
        expected = self.seq + 1
        if entry.seq > expected:
            gone = f"{expected}" if entry.seq == expected + 1 else f"{expected} to {entry.seq - 1}"
            return Break(seq=expected, fault="removed", text=f"entry {gone}: removed")
        if entry.seq < expected:
            return Break(seq=entry.seq, fault="inserted", text=f"entry {entry.seq}: there are two of this number")
        if not self._keys.knows(entry.key_id):
            return Break(
                seq=entry.seq,
                fault="unknown_key",
                text=f"entry {entry.seq}: its key is not here; add it to old_secret_keys, or it is forged",
            )
        if not self._fits(entry, entry.seq):
            self._held = (entry, Break(seq=entry.seq, fault="changed", text=f"entry {entry.seq}: changed, or made without the key"))
            return None
        if entry.previous != self.hash:
            return Break(seq=entry.seq, fault="removed", text=f"entry {entry.seq}: does not follow what is before it; entries are missing")
        if self._anchor and self._anchor[0] == entry.seq and self._anchor[1] != entry.hash:
            return Break(seq=entry.seq, fault="anchor", text=f"entry {entry.seq}: is not the one that the anchor names")
        self.seq, self.hash, self.count = entry.seq, entry.hash, self.count + 1
        return None

    def end(self, head: tuple[int, bytes] | None) -> Break | None:
        """Check that the chain ends where it should.

        Args:
            head: number and hash of the newest entry, as the database keeps them beside the entries.
        """
        if self._held and head and head[0] < self._held[0].seq:
            return Break(seq=self._held[0].seq, fault="inserted", text=f"entry {self._held[0].seq}: added at the end without the key")
        if self._held:
            return self._explained(None)
        if self._partial:
            return None  # no entry since then
        wanted = max(head[0] if head else 0, self._anchor[0] if self._anchor else 0)
        if wanted > self.seq:
            gone = f"{wanted}" if wanted == self.seq + 1 else f"{self.seq + 1} to {wanted}"
            return Break(seq=self.seq + 1, fault="tail_cut", text=f"entry {gone}: removed from the end")
        if self.seq and head is None:
            return Break(seq=self.seq, fault="head", text="the head of the chain was removed; entries at the end may be missing")
        if head and head[0] == self.seq and head[1] == self.hash:
            return None
        if head and (self.seq or head[0]):
            return Break(
                seq=self.seq, fault="head", text=f"the head of the chain names entry {head[0]}, the newest is {self.seq}, or another"
            )
        return None

    def _fits(self, entry: Entry, seq: int) -> bool:
        """Tell whether an entry was made for a place, whatever is before it."""
        return self._keys.fits(entry.key_id, canonical(replace(entry, seq=seq, hash=b"")), entry.hash)

    def _explained(self, after: Entry | None) -> Break:
        """Say what became of an entry that does not fit, now that the one after it is known."""
        assert self._held
        entry, changed = self._held
        if after and after.previous == entry.hash and self._fits(after, after.seq):
            return changed
        if after and not self._fits(after, after.seq) and self._fits(after, entry.seq):
            if self._fits(entry, after.seq):
                return Break(seq=entry.seq, fault="reordered", text=f"entry {entry.seq}: exchanged with entry {after.seq}")
            return Break(seq=entry.seq, fault="inserted", text=f"entry {entry.seq}: inserted; those after it were moved")
        place = self._place_of(entry)
        if place is None:
            return changed
        if place > entry.seq and (after is None or not self._fits(after, after.seq)):
            return Break(seq=entry.seq, fault="removed", text=f"entry {entry.seq}: removed; those after it were moved into its place")
        return Break(seq=entry.seq, fault="reordered", text=f"entry {entry.seq}: holds what was entry {place}")

    def _place_of(self, entry: Entry) -> int | None:
        """Return the number under which an entry was made, if it is not far."""
        near = (place for step in range(1, SEARCHED) for place in (entry.seq + step, entry.seq - step) if place > 0)
        return next((place for place in near if self._fits(entry, place)), None)


def _checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    fields = [
        "checkpoint",
        checkpoint.seq,
        checkpoint.hash.hex(),
        (checkpoint.pruned_at - _EPOCH) // ONE_US,
        checkpoint.key_id.hex(),
    ]
    return msgspec.json.encode(fields)


def _id_of(key: bytes) -> bytes:
    return hmac.digest(key, b"id", "sha256")[:KEY_ID_BYTES]
