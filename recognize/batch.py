"""Frames between the log and the recognizer, with the records they came in: decoded ahead, bounded, in order."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from core.ports import Partition, Record
from recognize.shown import Shown
from recognize.teller import Told


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame and where it came from."""

    record: Record
    shown: Shown
    epoch: int
    """How often its partition had gone away by then: a frame of an earlier epoch is another worker's."""

    @property
    def partition(self) -> Partition:
        """Topic and number."""
        return self.record.topic, self.record.partition


@dataclass(slots=True, kw_only=True)
class Batch:
    """Frames that are looked at together, and what was made of them."""

    frames: list[Arrived] = field(default_factory=list)
    poison: list[tuple[Record, str]] = field(default_factory=list)
    """Records that can't be looked at, each with the reason."""
    told: list[Told] = field(default_factory=list)
    decided_s: float = 0.0

    @staticmethod
    def of(records: Sequence[Record], read: Sequence[Shown | str], epochs: Sequence[int]) -> "Batch":
        """Part what could be read from what could not."""
        batch = Batch()
        for record, frame, epoch in zip(records, read, epochs, strict=True):
            if isinstance(frame, str):
                batch.poison.append((record, frame))
            else:
                batch.frames.append(Arrived(record, frame, epoch))
        return batch

    def add(self, later: "Batch") -> None:
        """Append what came later."""
        self.frames += later.frames
        self.poison += later.poison

    def keep(self, ours: Callable[[Arrived], bool]) -> None:
        """Drop the frames that are another worker's now."""
        self.frames = [frame for frame in self.frames if ours(frame)]

    def put_aside(self, broken: Mapping[str, str]) -> None:
        """Move frames, given by id with the reason, to the poison."""
        if broken:
            self.poison += [(frame.record, broken[key]) for frame in self.frames if (key := frame.shown.frame.frame_id) in broken]
            self.frames = [frame for frame in self.frames if frame.shown.frame.frame_id not in broken]


class DecodedAhead:
    """Decoded frames that wait for the recognizer: what came while it was busy is looked at together. Thread rule: one event loop."""

    def __init__(self, batch_frames: int) -> None:
        self._batch_frames = batch_frames
        self._batches: deque[Batch] = deque()
        self._changed = asyncio.Condition()

    async def put(self, batch: Batch) -> None:
        """Append a batch; waits while a full one waits already. An empty one only wakes a recognizer that has nothing to do."""
        async with self._changed:
            await self._changed.wait_for(lambda: sum(len(waiting.frames) for waiting in self._batches) < self._batch_frames)
            if not self._batches or batch.frames or batch.poison:
                self._batches.append(batch)
            self._changed.notify_all()

    async def take(self) -> Batch:
        """Return what waits, up to one batch's worth; waits for something."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._batches))
            batch = self._batches.popleft()
            while self._batches and len(batch.frames) + len(self._batches[0].frames) <= self._batch_frames:
                batch.add(self._batches.popleft())
            self._changed.notify_all()
            return batch
