"""The log in this process: ordered partitions, bounded, redelivering. Standalone's counterpart of Kafka.

A record stays until every group that ever joined its topic has committed it; ``publish`` waits while a partition is full.
A record that was handed out but not committed is handed out again when its consumer leaves. Nothing survives the
process: see docs/adr/0005.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from core.ports import OnRevoked, Partition, Record
from core.schema import DeadLetter, encode
from core.topology import DEAD_PREFIX

DEFAULT_PARTITIONS = 16  # more than cameras on one machine usually need: one busy camera seldom shares with another
DEFAULT_CAPACITY = 4  # records a partition: under overload latency is bounded to what waits here; older frames are worth less


@dataclass(slots=True)
class _Cursor:
    """How far one group is in one partition."""

    committed: int = 0
    """Offset of the first record that is not finished."""
    position: int = 0
    """Offset of the next record to hand out."""
    finished: set[int] = field(default_factory=set)
    """Offsets finished out of order, at or past ``committed``."""


@dataclass(slots=True)
class _Partition:
    records: deque[Record] = field(default_factory=deque)
    next_offset: int = 0
    cursors: dict[str, _Cursor] = field(default_factory=dict)

    @property
    def first_offset(self) -> int:
        return self.next_offset - len(self.records)

    def trim(self) -> None:
        """Forget the records that every group has finished."""
        done = min((cursor.committed for cursor in self.cursors.values()), default=0)
        while self.records and self.first_offset < done:
            self.records.popleft()


class MemoryLog:
    """In-process adapter of core.ports.Log. Thread rule: one event loop."""

    def __init__(self, *, partitions: int = DEFAULT_PARTITIONS, capacity: int = DEFAULT_CAPACITY) -> None:
        if partitions < 1 or capacity < 1:
            raise ValueError(f"partitions and capacity: expected at least 1, got {partitions} and {capacity}")
        self._partition_count = partitions
        self._capacity = capacity
        self._topics: dict[str, list[_Partition]] = {}
        self._members: dict[str, list[MemoryConsumer]] = {}
        self._changed = asyncio.Condition()

    async def publish(self, topic: str, key: str, value: bytes, *, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        """Append; waits while the partition is full. Dead-letter topics are a ring: nobody waits for them."""
        number = zlib.crc32(key.encode()) % self._partition_count
        partition = self._partitions(topic)[number]
        async with self._changed:
            if topic.startswith(DEAD_PREFIX):
                while len(partition.records) >= self._capacity:
                    partition.records.popleft()
            else:
                await self._changed.wait_for(lambda: len(partition.records) < self._capacity)
            record = Record(topic=topic, partition=number, offset=partition.next_offset, key=key, value=value, headers=headers)
            partition.records.append(record)
            partition.next_offset += 1
            self._changed.notify_all()

    def consumer(
        self, topics: Sequence[str], group: str, *, on_revoked: OnRevoked | None = None
    ) -> AbstractAsyncContextManager["MemoryConsumer"]:
        """Join a group on some topics (``frames.*`` = every topic that begins so); leaving hands back what was not committed."""
        return self._join(tuple(topics), group, on_revoked)

    def depth(self, prefix: str) -> int:
        """Return how many records of the topics that begin so wait or are in flight."""
        return sum(len(p.records) for topic, partitions in self._topics.items() if topic.startswith(prefix) for p in partitions)

    async def drained(self, prefix: str) -> None:
        """Return once every record of the topics that begin so is finished."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.depth(prefix) == 0)

    @asynccontextmanager
    async def _join(self, topics: tuple[str, ...], group: str, on_revoked: OnRevoked | None) -> AsyncIterator["MemoryConsumer"]:
        consumer = MemoryConsumer(self, topics, group, on_revoked)
        revoked = self._change_members(group, lambda members: members.append(consumer))
        try:
            for member, partitions in revoked:
                await member.tell_revoked(partitions)
            yield consumer
        finally:
            self._change_members(group, lambda members: members.remove(consumer))
            async with self._changed:
                self._changed.notify_all()

    def _partitions(self, topic: str) -> list[_Partition]:
        if topic not in self._topics:
            self._topics[topic] = [_Partition() for _ in range(self._partition_count)]
            for group, members in self._members.items():
                if any(member.reads(topic) for member in members):
                    self._add_cursors(topic, group)
        return self._topics[topic]

    def _add_cursors(self, topic: str, group: str) -> None:
        for partition in self._topics[topic]:
            partition.cursors.setdefault(group, _Cursor(partition.first_offset, partition.first_offset))

    def _change_members(
        self, group: str, change: Callable[[list["MemoryConsumer"]], None]
    ) -> list[tuple["MemoryConsumer", list[Partition]]]:
        """Change a group's members and share its partitions anew; moved partitions start again at the committed offset.

        Returns:
            members that stay, with the partitions that others took over from them.
        """
        members = self._members.setdefault(group, [])
        before = {topic: self._owners(topic, group) for topic in self._topics}
        change(members)
        revoked: dict[int, tuple[MemoryConsumer, list[Partition]]] = {}
        for topic, partitions in self._topics.items():
            if any(member.reads(topic) for member in members):
                self._add_cursors(topic, group)
            moves = zip(partitions, before[topic], self._owners(topic, group), strict=True)
            for number, (partition, old, new) in enumerate(moves):
                if old is new or group not in partition.cursors:
                    continue
                partition.cursors[group].position = partition.cursors[group].committed
                partition.cursors[group].finished.clear()
                if old in members:
                    revoked.setdefault(id(old), (old, []))[1].append((topic, number))
        return list(revoked.values())

    def _owners(self, topic: str, group: str) -> list["MemoryConsumer | None"]:
        """Return the owner of each partition of a topic: round robin over the group's members that read it."""
        members = [member for member in self._members.get(group, []) if member.reads(topic)]
        return [members[number % len(members)] if members else None for number in range(self._partition_count)]

    def owns(self, consumer: "MemoryConsumer", record: Record) -> bool:
        """Return whether a record's partition is this consumer's."""
        return self._owners(record.topic, consumer.group)[record.partition] is consumer

    def _owned(self, consumer: "MemoryConsumer") -> list[_Partition]:
        return [
            partition
            for topic, partitions in self._topics.items()
            if consumer.reads(topic)
            for partition, owner in zip(partitions, self._owners(topic, consumer.group), strict=True)
            if owner is consumer
        ]


class MemoryConsumer:
    """A member of a consumer group of a MemoryLog."""

    def __init__(self, log: MemoryLog, topics: tuple[str, ...], group: str, on_revoked: OnRevoked | None) -> None:
        self._log = log
        self.topics = topics
        self.group = group
        self._on_revoked = on_revoked
        self._turn = 0

    def reads(self, topic: str) -> bool:
        """Return whether this consumer subscribed to a topic."""
        return any(topic == name or (name.endswith("*") and topic.startswith(name[:-1])) for name in self.topics)

    async def tell_revoked(self, partitions: Sequence[Partition]) -> None:
        """Tell the owner that partitions went to another member; what was in flight of them is handed back."""
        if self._on_revoked is not None:
            await self._on_revoked(partitions)

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return up to max_records, taken round robin from the partitions, or none when the time is up."""
        try:
            async with asyncio.timeout(timeout_s), self._log._changed:
                await self._log._changed.wait_for(self._has_records)
        except TimeoutError:
            return []
        return self._take(max_records)

    async def commit(self, records: Sequence[Record]) -> None:
        """Finish records, in any order; those of partitions that went to another member change nothing."""
        for record in records:
            if not self._log.owns(self, record):
                continue
            partition = self._log._partitions(record.topic)[record.partition]
            cursor = partition.cursors[self.group]
            if record.offset >= cursor.committed:
                cursor.finished.add(record.offset)
            while cursor.committed in cursor.finished:
                cursor.finished.discard(cursor.committed)
                cursor.committed += 1
            cursor.position = max(cursor.position, cursor.committed)
            partition.trim()
        async with self._log._changed:
            self._log._changed.notify_all()

    async def dead_letter(self, record: Record, reason: str) -> None:
        """Put a record aside with its reason and finish it."""
        letter = DeadLetter(topic=record.topic, partition=record.partition, offset=record.offset, key=record.key, reason=reason)
        await self._log.publish(DEAD_PREFIX + record.topic, record.key, encode(letter, record.value), headers=record.headers)
        await self.commit([record])

    def _has_records(self) -> bool:
        return any(p.cursors[self.group].position < p.next_offset for p in self._log._owned(self))

    def _take(self, max_records: int) -> list[Record]:
        taken: list[Record] = []
        owned = self._log._owned(self)
        idle = 0
        while len(taken) < max_records and idle < len(owned):
            partition = owned[self._turn % len(owned)]
            self._turn += 1
            cursor = partition.cursors[self.group]
            if cursor.position < partition.next_offset:
                cursor.position = max(cursor.position, partition.first_offset)  # a dead-letter ring may have moved on
                taken.append(partition.records[cursor.position - partition.first_offset])
                cursor.position += 1
                idle = 0
            else:
                idle += 1
        return taken
