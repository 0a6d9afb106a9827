"""The time lines of a camera: which tracker continues with a frame. Pure; no clock.

Frames of a camera come in capture order but for a few honest reasons: it moved to another ingester and both deliver for a moment, the
spool of an ingester that was away drains after its successor went on, or an operator replays an hour of yesterday. Frames that belong to
another time are tracked on a line of their own, so that they are recognized and break no track of the present.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from core.ports import Partition
from detect.cuts import CutDetector
from detect.tracker import Tracker, TrackerSettings
from recognize.outcome import TrackStory

LAG_S = 0.5  # two ingesters of one camera differ by less; a frame this late is seen as if it came in time
MAX_LINES = 4  # the present, a spool or two that drain, a replay; more at once is no camera
SEEN_FRAMES = 512  # half a minute at 15 frames/s: a redelivery comes within the batches in flight


@dataclass(slots=True, kw_only=True)
class Line:
    """Frames of a camera in capture order, with their tracks."""

    tracker: Tracker
    touched_s: float
    """The worker's clock when its last frame came."""
    newest_s: float = float("-inf")
    """The latest capture time on it."""
    cuts: CutDetector = field(default_factory=CutDetector)
    stories: dict[str, TrackStory] = field(default_factory=dict)
    """By track id."""


@dataclass(slots=True, kw_only=True)
class Camera:
    """What a worker knows of a camera. Thread rule: one event loop."""

    name: str
    region: str
    partition: Partition | None = None
    """Where its last frame came from."""
    lines: list[Line] = field(default_factory=list)
    seen: dict[str, None] = field(default_factory=dict)
    """Ids of its last frames, oldest first."""

    def repeats(self, frame_id: str) -> bool:
        """Return whether a frame came before, and remember it."""
        if frame_id in self.seen:
            return True
        self.seen[frame_id] = None
        if len(self.seen) > SEEN_FRAMES:
            del self.seen[next(iter(self.seen))]
        return False

    def line_for(self, captured_s: float, settings: TrackerSettings, now_s: float) -> tuple[Line, bool]:
        """Return the line that a frame continues, and whether it is a new one.

        It is the one whose newest frame is closest in time, of those that the frame is not more than LAG_S older than.
        """
        near = [line for line in self.lines if line.newest_s - captured_s <= LAG_S]
        line = min(near, key=lambda near: abs(captured_s - near.newest_s), default=None)
        fresh = line is None
        if line is None:
            line = Line(tracker=Tracker(settings), touched_s=now_s)
            self.lines.append(line)
        line.newest_s, line.touched_s = max(line.newest_s, captured_s), now_s
        return line, fresh

    def surplus(self, keep: Line) -> Iterator[Line]:
        """Take the longest untouched lines away until there are MAX_LINES, never ``keep``."""
        while len(self.lines) > MAX_LINES:
            oldest = min((line for line in self.lines if line is not keep), key=lambda line: line.touched_s)
            self.lines.remove(oldest)
            yield oldest

    def is_present(self, line: Line) -> bool:
        """Return whether a line is the camera's latest in capture time."""
        return line.newest_s >= max(other.newest_s for other in self.lines)
