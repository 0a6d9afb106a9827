"""Try a source once: does it answer, what does it send, how soon?"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.errors import UnavailableError, UnreadableMediaError
from core.types import Image
from ingest.opening import SourceInfo, SourceOptions
from ingest.recordings import TimedFrame, open_frames

MEASURE_S = 2.0  # the frame rate of a live stream is measured over this long


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a source answered."""

    info: SourceInfo
    open_s: float
    """Until the stream's description was known."""
    first_frame_s: float
    """Until the first picture was decoded, opening included."""
    measured_fps: float | None
    """Of a live stream; None for recordings."""
    image: Image
    """The first picture."""

    def line(self) -> dict[str, Any]:
        """Return it as it is printed."""
        info = self.info
        return {
            "url": info.url,
            "kind": info.kind,
            "codec": info.codec,
            "container": info.container,
            "width_px": self.image.shape[1],
            "height_px": self.image.shape[0],
            "pixel_format": info.pixel_format,
            "stated_fps": None if info.fps is None else round(info.fps, 2),
            "measured_fps": None if self.measured_fps is None else round(self.measured_fps, 2),
            "duration_s": info.duration_s,
            "open_s": round(self.open_s, 3),
            "first_frame_s": round(self.first_frame_s, 3),
        }


def probe_source(url: str, options: SourceOptions | None = None, *, measure: bool = True) -> Probe:
    """Open a source, decode its first picture and, for a live stream when asked to ``measure`` its rate, MEASURE_S more.

    Raises:
        UsageError, NotFoundError, UnreadableMediaError, UnavailableError: it can't be opened, or sends no picture.
    """
    begin_s = time.monotonic()
    with open_frames(url, options) as source:
        open_s = time.monotonic() - begin_s
        frames = source.timed()
        first = next(frames, None)
        first_frame_s = time.monotonic() - begin_s
        if first is None:
            text = f"{source.info.url}: sends no picture"
            raise UnavailableError(text) if source.info.live else UnreadableMediaError(text)
        image = first.frame.rgb()
        fps = _rate(frames) if source.info.live and measure else None
        return Probe(info=source.info, open_s=open_s, first_frame_s=first_frame_s, measured_fps=fps, image=image)


def _rate(frames: Iterator[TimedFrame]) -> float | None:
    """Return the frames per second that arrive, None if the stream ends at once."""
    begin_s = time.monotonic()
    for count, _ in enumerate(frames, start=1):
        if (passed_s := time.monotonic() - begin_s) >= MEASURE_S:
            return count / passed_s
    return None
