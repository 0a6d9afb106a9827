"""Recordings as one stream of frames: a file, or a folder of clips played in the order of their names."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from core.errors import NotFoundError, UnreadableMediaError
from ingest.opening import SourceInfo, SourceOptions
from ingest.source import DecodeCounts, DecodedFrame, Source, open_source
from ingest.urls import clips_in, kind_of, split_scheme

USUAL_FRAME_S = 0.04  # between the last frame of a clip and the first of the next, when a clip has one frame only


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A frame and its time in the whole source."""

    frame: DecodedFrame
    pts_s: float | None
    """As the stream states it; for folders it goes on from clip to clip."""


class FrameSource(Protocol):
    """What a camera reads from."""

    info: SourceInfo
    counts: DecodeCounts

    def __enter__(self) -> "FrameSource":
        """Return itself."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        ...

    def timed(self) -> Iterator[TimedFrame]:
        """Decode to the end. Raises UnavailableError, UnreadableMediaError."""
        ...


class SingleSource(AbstractContextManager["SingleSource"]):
    """A stream, device or file. Thread rule: one thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.info, self.counts = source.info, source.counts

    def timed(self) -> Iterator[TimedFrame]:
        """Decode to the end."""
        return (TimedFrame(frame, frame.pts_s) for frame in self._source.frames())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._source.close()


class FolderSource(AbstractContextManager["FolderSource"]):
    """The clips of a folder as one recording. Clips that can't be opened or end early are counted as errors and skipped."""

    def __init__(self, clips: list[Path], first: Source, options: SourceOptions) -> None:
        self._clips, self._source, self._options = clips, first, options
        self.info = replace(first.info, kind="folder", duration_s=None)
        self.counts = DecodeCounts()

    def timed(self) -> Iterator[TimedFrame]:
        """Decode all clips to the end."""
        base_s = 0.0
        while True:
            first_s: float | None = None
            last_s, step_s = 0.0, USUAL_FRAME_S
            for frame in self._frames():
                if frame.pts_s is not None:
                    first_s = frame.pts_s if first_s is None else first_s
                    step_s = max(frame.pts_s - first_s - last_s, 0.0) or step_s
                    last_s = frame.pts_s - first_s
                yield TimedFrame(frame, None if frame.pts_s is None else base_s + last_s)
            base_s += last_s + step_s
            if not self._open_next():
                return

    def _frames(self) -> Iterator[DecodedFrame]:
        before = replace(self.counts)
        try:
            for frame in self._source.frames():
                self.counts.frames, self.counts.errors = (
                    before.frames + self._source.counts.frames,
                    before.errors + self._source.counts.errors,
                )
                yield frame
        except UnreadableMediaError:
            self.counts.errors += 1

    def _open_next(self) -> bool:
        self._source.close()
        while self._clips:
            try:
                self._source = open_source(str(self._clips.pop(0)), self._options)
            except (NotFoundError, UnreadableMediaError):
                self.counts.errors += 1
            else:
                return True
        return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._source.close()


def open_frames(url: str, options: SourceOptions | None = None) -> FrameSource:
    """Open anything that ``sightline cameras add`` accepts: stream, device, file or folder of clips.

    Raises:
        UsageError, NotFoundError, UnreadableMediaError, UnavailableError: as ``open_source``; a folder needs one clip that opens.
    """
    options = options or SourceOptions()
    if kind_of(url) != "folder":
        return SingleSource(open_source(url, options))
    folder = Path(split_scheme(url)[1])
    clips = clips_in(folder)
    if not clips:
        raise NotFoundError(f"{folder}: no video in this folder; put .mp4, .mkv, .avi ... clips into it")
    problem: Exception | None = None
    while clips:
        try:
            first = open_source(str(clips.pop(0)), options)
        except UnreadableMediaError as err:
            problem = problem or err
        else:
            return FolderSource(clips, first, options)
    raise UnreadableMediaError(f"{folder}: none of its clips can be read; the first says: {problem}")
