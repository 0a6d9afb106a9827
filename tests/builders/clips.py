"""Small real video files, and a source and clock without any, for the tests of ingest."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.types import U8, Image
from ingest.encode import Planes
from ingest.opening import SourceInfo
from ingest.recordings import TimedFrame
from ingest.source import ClipWriter, DecodeCounts


def coloured(colour: tuple[int, int, int], *, width: int = 96, height: int = 64) -> Image:
    return np.full((height, width, 3), colour, np.uint8)


def write_clip(path: Path, *, frames: int = 20, fps: int = 10, gop: int = 5, width: int = 96, height: int = 64) -> Path:
    """A red picture over which a white square moves to the right."""
    with ClipWriter(path, fps=fps, gop=gop) as writer:
        for number in range(frames):
            image = coloured((200, 30, 30), width=width, height=height)
            image[20:40, 2 * number : 2 * number + 20] = 255
            writer.write(image)
    return path


@dataclass(frozen=True)
class StillFrame:
    """Stands in for a DecodedFrame: grey planes of one level."""

    level: int = 100
    width_px: int = 64
    height_px: int = 48

    def planes(self) -> Planes:
        chroma: U8 = np.full((self.height_px // 2, self.width_px // 2), 128, np.uint8)
        luma: U8 = np.full((self.height_px, self.width_px), self.level, np.uint8)
        return Planes(y=luma, u=chroma, v=chroma, matrix="bt601", full_range=True)


class ScriptedSource(AbstractContextManager["ScriptedSource"]):
    """A source that plays a script: (pts, level) of frames, then an error or the end."""

    def __init__(self, frames: Sequence[tuple[float | None, int]], *, live: bool, end: Exception | None = None) -> None:
        self.info = SourceInfo(
            kind="rtsp" if live else "file",
            url="rtsp://camera/1" if live else "clip.mp4",
            container="test",
            codec="test",
            width_px=64,
            height_px=48,
            fps=10.0,
            pixel_format="yuv420p",
            duration_s=None,
            live=live,
            clocked=True,
        )
        self.counts = DecodeCounts()
        self._frames, self._end = frames, end
        self.closed = False

    def timed(self) -> Iterator[TimedFrame]:
        for pts_s, level in self._frames:
            self.counts.frames += 1
            frame: Any = StillFrame(level)
            yield TimedFrame(frame, pts_s)
        if self._end is not None:
            raise self._end

    def __exit__(self, *_: object) -> None:
        self.closed = True


@dataclass
class FakeClock:
    """A clock that moves only when somebody waits for it, or is told how long a frame takes to arrive."""

    unix_s: float = 1_000_000.0
    waits: list[float] = field(default_factory=list)
    stop_after: int | None = None
    """Set the stop flag at this many waits of a second or more, so that endless retries end."""

    def now_s(self) -> float:
        return self.unix_s

    def wait(self, stop: threading.Event, seconds: float) -> None:
        self.waits.append(seconds)
        self.unix_s += max(seconds, 0.0)
        if self.stop_after is not None and len(self.waits) >= self.stop_after:
            stop.set()
