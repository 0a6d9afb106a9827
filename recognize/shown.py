"""A frame on its way through the recognizer."""

from dataclasses import dataclass

from core.ports import Partition
from core.schema import StageTimes
from core.types import Frame
from detect.tracker import Look, Update
from recognize.lines import Camera, Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A frame with what its header said and how it came."""

    frame: Frame
    region: str
    published_s: float
    scene_cut: bool = False
    received_s: float = 0.0
    """Unix seconds; 0 = not from a log."""
    decoded_s: float = 0.0
    replayed_s: float = 0.0
    """When an operator had it looked at anew, Unix seconds; 0 = not replayed."""
    partition: Partition | None = None
    """Where it came from: its camera stays with this worker as long as the partition does."""


@dataclass(slots=True, kw_only=True)
class Passing:
    """A frame with its faces, its camera and, later, its tracks."""

    shown: Shown
    look: Look
    camera: Camera
    line: Line
    wanted: tuple[int, ...] = ()
    """Indices of the faces to embed."""
    update: Update | None = None
    detected_s: float = 0.0
    """Unix seconds at which its faces were found."""

    @property
    def now_s(self) -> float:
        """Its time for the tracker, which never goes back on a line."""
        return self.line.newest_s

    def times(self, *, embedded_s: float, matched_s: float, decided_s: float) -> StageTimes:
        """Return the stages of a sighting that this frame decides."""
        return StageTimes(
            captured_s=self.shown.frame.captured_s,
            published_s=self.shown.published_s,
            received_s=self.shown.received_s,
            decoded_s=self.shown.decoded_s,
            detected_s=self.detected_s,
            embedded_s=embedded_s,
            matched_s=matched_s,
            decided_s=decided_s,
        )
