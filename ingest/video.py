"""Recorded video and animated GIFs as RGB images, faster than real time: a thread decodes ahead while the caller works."""

import queue
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from core.errors import NotFoundError, UnreadableMediaError
from core.types import Image
from ingest.opening import SourceInfo, SourceOptions
from ingest.source import DecodedFrame, Source, open_source

AHEAD_FRAMES = 3  # enough to hide the decoder; 19 MB at 1080p
USUAL_FPS = 25.0  # for recordings that state no rate and no timestamps
POLL_S = 0.2  # how soon the thread notices that nobody reads any more

Item = tuple[float, Image]


class RecordedVideo(AbstractContextManager["RecordedVideo"]):
    """Images of a recording with their times. Iterate once, inside ``with``. Thread rule: one thread iterates."""

    def __init__(self, source: Source, every_s: float | None) -> None:
        self._source, self._every_s = source, every_s
        self._ready: queue.Queue[Item | BaseException | None] = queue.Queue(AHEAD_FRAMES)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._decode, name="read-video", daemon=True)
        self.info: SourceInfo = source.info
        self.duration_s: float | None = source.info.duration_s
        """For a progress bar; None when the file does not say."""

    @property
    def errors(self) -> int:
        """How many packets or frames were damaged and left out so far."""
        return self._source.counts.errors

    def __enter__(self) -> "RecordedVideo":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        """Yield (seconds from the first frame, (H, W, 3) uint8 RGB). Raises UnreadableMediaError when there is no picture."""
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _decode(self) -> None:
        end: BaseException | None = None
        try:
            for t_s, frame in _sampled(self._source, self._every_s):
                image = self._rgb(frame)
                if image is not None and not self._put((t_s, image)):
                    break
        except BaseException as err:  # noqa: BLE001 - the thread's boundary: the reader raises it again
            end = err
        finally:
            self._source.close()
            self._put(end)

    def _rgb(self, frame: DecodedFrame) -> Image | None:
        try:
            return frame.rgb()
        except UnreadableMediaError:  # one damaged picture among good ones
            self._source.counts.errors += 1
            return None

    def _put(self, item: Item | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False


def _sampled(source: Source, every_s: float | None) -> Iterator[tuple[float, DecodedFrame]]:
    """Yield the frames with their times from the first; with every_s only the first frame of each such stretch."""
    step_s = 1.0 / (source.info.fps or USUAL_FPS)
    first_s: float | None = None
    last_s, due_s = -step_s, 0.0
    for frame in source.frames():
        if first_s is None:
            first_s = frame.pts_s or 0.0
        t_s = last_s + step_s if frame.pts_s is None else frame.pts_s - first_s
        if t_s <= last_s:
            t_s = last_s + step_s  # a clock that stands still or goes back, as after a careless cut
        last_s = t_s
        if every_s is None or t_s >= due_s - step_s / 2:
            yield t_s, frame
            if every_s is not None:
                due_s = max(due_s + every_s, t_s + every_s / 2)


def read_video(path: Path | str, *, every_s: float | None = None) -> RecordedVideo:
    """Open a recording.

    Args:
        path: a video file or an animated GIF.
        every_s: yield only one frame in so many seconds; None yields all.

    Returns:
        A context manager to iterate over: ``with read_video(path) as video: for t_s, image in video: ...``

    Raises:
        UnreadableMediaError: not a video, damaged from the start, or too large; one clear line.
        NotFoundError: no such file.
    """
    if every_s is not None and not every_s > 0:
        raise ValueError(f"read_video.every_s: expected more than 0, got {every_s}")
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise UnreadableMediaError(f"{path}: is a folder; give the video files in it")
    return RecordedVideo(open_source(str(path), SourceOptions(threads=0)), every_s)
