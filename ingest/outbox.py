"""Gated frames on their way from a camera's thread to the event loop: the one place where live frames are dropped."""

import asyncio
import threading
from collections import deque
from dataclasses import dataclass

import msgspec

from core.schema import FrameHeader


@dataclass(frozen=True, slots=True)
class GatedFrame:
    """A frame that the gate let through."""

    header: FrameHeader
    """``frame_id`` is empty until the frame is accepted, ``published_s`` 0 until it is published."""
    jpeg: bytes


class Outbox:
    """A bounded queue between two worlds. Frames are worth less the older they are: when it is full, the oldest goes."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"Outbox.capacity: expected at least 1, got {capacity}")
        self._capacity = capacity
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._frames: deque[GatedFrame] = deque()
        self._filled = asyncio.Event()
        self._closed = False

    def open(self) -> None:
        """Bind the outbox to the running loop. Thread rule: the loop, before the camera's thread starts."""
        self._loop = asyncio.get_running_loop()

    def hand_over(self, frame: GatedFrame) -> int:
        """Give a frame to the loop and return how many older ones were dropped for it (0 or 1).

        Thread rule: the camera's thread; this is where it meets the event loop, and nowhere else.
        """
        with self._lock:
            dropped = len(self._frames) >= self._capacity
            cut = dropped and self._frames.popleft().header.scene_cut
            self._frames.append(frame)
            if cut:  # the cut itself must not be lost: tracks end there
                following = self._frames[0]
                self._frames[0] = GatedFrame(msgspec.structs.replace(following.header, scene_cut=True), following.jpeg)
        self._wake()
        return int(dropped)

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._filled.set)

    def close(self) -> None:
        """Say that nothing more comes. Thread rule: the camera's thread."""
        self._closed = True
        self._wake()

    async def take(self) -> GatedFrame | None:
        """Return the oldest frame, waiting for one; None when closed and empty. Thread rule: one task of the loop."""
        while True:
            with self._lock:
                if self._frames:
                    return self._frames.popleft()
                if self._closed:
                    return None
                self._filled.clear()
            await self._filled.wait()

    def clear(self) -> int:
        """Forget all frames and return how many they were. Thread rule: any."""
        with self._lock:
            count = len(self._frames)
            self._frames.clear()
        return count

    def __len__(self) -> int:
        return len(self._frames)
