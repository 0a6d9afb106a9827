"""Gated frames, and a log whose availability a test decides."""

import asyncio
from collections import defaultdict

from core.errors import MessageError, UnavailableError
from core.schema import FrameHeader, decode
from ingest.outbox import GatedFrame


def gated(number: int, *, camera: str = "door", region: str = "west", captured_s: float = 1000.0, size: int = 100) -> GatedFrame:
    """A frame as a worker accepts it; its picture is its number, repeated."""
    header = FrameHeader(
        frame_id=f"{camera}/s/{number}",
        camera=camera,
        region=region,
        captured_s=captured_s,
        published_s=0.0,
        width_px=8,
        height_px=8,
        reason="motion",
    )
    return GatedFrame(header, bytes([number % 256]) * size)


class SwitchedLog:
    """A log that works, refuses, or hangs (as a frozen server does: refused only after ``patience_s``)."""

    def __init__(self, *, patience_s: float = 0.05) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.refuses = False
        self.patience_s = patience_s
        self.poison: set[str] = set()
        self.got: dict[str, list[FrameHeader]] = defaultdict(list)
        self.jpegs: list[bytes] = []
        self.attempts = 0

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        self.attempts += 1
        header, jpeg = decode(FrameHeader, value)
        assert (topic, key) == (f"frames.{header.region}", header.camera)
        if self.refuses:
            raise UnavailableError("the log refuses")
        try:
            async with asyncio.timeout(self.patience_s):
                await self.up.wait()
        except TimeoutError:
            raise UnavailableError("the log hangs") from None
        if header.frame_id in self.poison:
            raise MessageError("too large")
        self.got[key].append(header)
        self.jpegs.append(bytes(jpeg))

    def ids(self, camera: str = "door") -> list[int]:
        """The numbers of a camera's frames, in the order of the log."""
        return [int(header.frame_id.rpartition("/")[2]) for header in self.got[camera]]
