"""Which records of a consumer are buffered, in flight, finished and committed. Pure: no I/O, no clock, no threads."""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from core.ports import Partition, Record

RESUME_SHARE = 0.5  # a paused partition goes on when its records fall to this share of the mark that paused it
LEAST_SHARE = 8  # records that a partition may buffer however many there are: a batch


class OffsetTracker:
    """One partition's records from delivery to commit. Only what is contiguously finished may be committed."""

    def __init__(self) -> None:
        self._pending: deque[int] = deque()
        """Delivered, from the first unfinished one on, ascending."""
        self._open: set[int] = set()
        """Those of them that are not finished."""
        self._next: int | None = None
        self._committed: int | None = None

    def deliver(self, offset: int) -> None:
        """Note a record. An offset that goes back (a topic made anew, a truncated log) begins anew: better twice than never."""
        if self._next is not None and offset < self._next:
            self._pending.clear()
            self._open.clear()
        if self._committed is None:
            self._committed = offset
        self._pending.append(offset)
        self._open.add(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> bool:
        """Note that a record is done, in any order; False when it is not one of ours (revoked, or done before)."""
        if offset not in self._open:
            return False
        self._open.discard(offset)
        while self._pending and self._pending[0] not in self._open:
            self._pending.popleft()
        return True

    def withdraw(self, count: int) -> None:
        """Forget the last so many delivered records, which nobody was given: they are neither finished nor in flight."""
        for _ in range(count):
            self._next = self._pending.pop()
            self._open.discard(self._next)

    @property
    def position(self) -> int | None:
        """The first offset that is not finished: what a successor starts with. None before the first record."""
        return self._pending[0] if self._pending else self._next

    @property
    def unfinished(self) -> int:
        """How many delivered records are not finished."""
        return len(self._open)

    def to_commit(self) -> int | None:
        """Return the position when the broker does not know it yet."""
        return None if self.position == self._committed else self.position

    def acknowledged(self, offset: int) -> None:
        """Note what the broker has."""
        self._committed = offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a consumer fetches ahead of its owner."""

    records: int = 128
    """About a second of a busy worker."""
    bytes: int = 16 << 20


@dataclass(slots=True)
class _Lane:
    """One partition of ours."""

    tracker: OffsetTracker = field(default_factory=OffsetTracker)
    buffered: deque[Record] = field(default_factory=deque)
    paused: bool = False
    stopped: bool = False
    """Going away: nothing more is handed out."""


class Ledger:
    """The partitions of one consumer. Records are handed out fairly: one of each partition in turn."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lanes: dict[Partition, _Lane] = {}
        self._turns: deque[Partition] = deque()
        """Partitions with buffered records, whose turn is next first."""
        self.buffered = 0
        self.buffered_bytes = 0

    @property
    def partitions(self) -> list[Partition]:
        """Those that are ours."""
        return list(self._lanes)

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Take partitions over."""
        for partition in partitions:
            self._lanes.setdefault(partition, _Lane())

    def stop(self, partitions: Iterable[Partition]) -> None:
        """Hand out nothing more of partitions that are going away; what is in flight may still be finished."""
        for partition in partitions:
            if lane := self._lanes.get(partition):
                lane.stopped = True
                self._drop(partition)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Let partitions go. What is in flight is no longer ours: finishing it changes nothing."""
        for partition in partitions:
            if partition in self._lanes:
                self._drop(partition)
                del self._lanes[partition]

    def arrive(self, record: Record) -> None:
        """Buffer a record that was fetched."""
        partition = (record.topic, record.partition)
        lane = self._lanes.get(partition)
        if lane is None or lane.stopped:
            return
        lane.tracker.deliver(record.offset)
        if not lane.buffered:
            self._turns.append(partition)
        lane.buffered.append(record)
        self.buffered += 1
        self.buffered_bytes += len(record.value)

    def take(self, most: int) -> list[Record]:
        """Hand out up to so many records."""
        taken: list[Record] = []
        while self._turns and len(taken) < most:
            partition = self._turns.popleft()
            lane = self._lanes[partition]
            record = lane.buffered.popleft()
            self.buffered -= 1
            self.buffered_bytes -= len(record.value)
            taken.append(record)
            if lane.buffered:
                self._turns.append(partition)
        return taken

    def finish(self, records: Iterable[Record]) -> None:
        """Note that records are done, in any order; those of partitions that went away are ignored.

        So are those that were handed out before a partition went and came back: the same record waits here to be handed out again.
        """
        for record in records:
            lane = self._lanes.get((record.topic, record.partition))
            if lane is not None and not (lane.buffered and record.offset >= lane.buffered[0].offset):
                lane.tracker.finish(record.offset)

    def in_flight(self, partitions: Collection[Partition] | None = None) -> int:
        """Return how many records are handed out and not finished, of some partitions or of all."""
        lanes = self._lanes.values() if partitions is None else [self._lanes[p] for p in partitions if p in self._lanes]
        return sum(lane.tracker.unfinished - len(lane.buffered) for lane in lanes)

    def to_commit(self, partitions: Collection[Partition] | None = None) -> dict[Partition, int]:
        """Return the offsets that the broker does not know yet, of some partitions or of all."""
        chosen = self._lanes if partitions is None else [p for p in partitions if p in self._lanes]
        return {p: offset for p in chosen if (offset := self._lanes[p].tracker.to_commit()) is not None}

    def acknowledged(self, partition: Partition, offset: int) -> None:
        """Note what the broker has."""
        if lane := self._lanes.get(partition):
            lane.tracker.acknowledged(offset)

    def position(self, partition: Partition) -> int | None:
        """Return the first offset that is not finished, None before the first record."""
        return self._lanes[partition].tracker.position

    def room(self) -> int:
        """Return how many records may be fetched now."""
        return 0 if self.buffered_bytes >= self._limits.bytes else max(0, self._limits.records - self.buffered)

    def paused(self) -> set[Partition]:
        """Return the partitions that are not to be fetched: all of a full buffer, or one that holds more than its share of it.

        With hysteresis: a paused partition goes on at half of the mark, so that nothing flutters.
        """
        share = max(LEAST_SHARE, 2 * self._limits.records // max(1, len(self._lanes)))
        full = self.room() == 0
        half_empty = self.buffered <= self._limits.records * RESUME_SHARE and self.buffered_bytes <= self._limits.bytes * RESUME_SHARE
        for lane in self._lanes.values():
            if full or len(lane.buffered) >= share:
                lane.paused = True
            elif half_empty and len(lane.buffered) <= share * RESUME_SHARE:
                lane.paused = False
        return {partition for partition, lane in self._lanes.items() if lane.paused}

    def _drop(self, partition: Partition) -> None:
        """Forget what is buffered: it is fetched again by whoever comes next."""
        lane = self._lanes[partition]
        if lane.buffered:
            self._turns.remove(partition)
        self.buffered -= len(lane.buffered)
        self.buffered_bytes -= sum(len(record.value) for record in lane.buffered)
        lane.tracker.withdraw(len(lane.buffered))
        lane.buffered.clear()
