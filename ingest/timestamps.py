"""When was a frame captured? Camera clocks start anywhere, jump, wrap, stand still and lie. Pure: arrival times are passed in.

The capture time is the stream's timestamp moved onto our clock: ``captured = pts + offset``, where the offset is the
smallest ``arrival - pts`` seen, leaking upwards slowly (so that network jitter is taken out and a slow camera clock is
followed). A timestamp that can't be true is a fault: that frame gets its arrival time and the offset starts again. A
clock with too many faults is not asked any more.
"""

from dataclasses import dataclass
from typing import Literal

Fault = Literal["missing", "backward", "jump", "lag"]

JUMP_S = 2.0  # between two frames the stream's clock and ours may differ by this much; more is a jump
LAG_S = 8.0  # a frame can wait this long in the network and the decoder; older means a slow or stopped clock
LEAK_PER_S = 0.005  # a camera's quartz is good to 0.0001; 0.5 % also follows streams that state a wrong frame rate slightly
FAULTS_LIMIT = 8  # this many faults ...
FAULTS_WINDOW = 256  # ... within so many frames: the clock lies (a healthy stream has one per reconnection)
STEP_S = 1e-4  # capture times strictly grow ...
STEPPED_S = 5.0  # ... unless this machine's clock was set back by more than this


@dataclass(frozen=True, slots=True)
class Stamp:
    """One frame's capture time."""

    captured_s: float
    """Unix seconds, strictly growing, never after the arrival by more than STEP_S per frame."""
    fault: Fault | None
    """Why the stream's own timestamp was not used."""


class CaptureClock:
    """Turns presentation timestamps into capture times for one connection. Thread rule: one thread."""

    def __init__(self, *, trusted: bool = True) -> None:
        self._offset_s: float | None = None
        self._pts_s = 0.0
        self._arrival_s = 0.0
        self._captured_s = float("-inf")
        self._faults: list[int] = []
        self._frames = 0
        self.lying = not trusted
        """The stream's clock is no longer asked; capture time is arrival time."""

    def stamp(self, pts_s: float | None, arrival_s: float) -> Stamp:
        """Return the capture time of the next frame.

        Args:
            pts_s: the stream's presentation timestamp in seconds, None if it has none.
            arrival_s: our Unix time when the frame was decoded.
        """
        self._frames += 1
        if self.lying:
            return self._given(arrival_s, None)
        fault = self._fault(pts_s, arrival_s)
        if pts_s is None or fault is not None:
            self._note_fault(pts_s, arrival_s)
            return self._given(arrival_s, fault)
        if self._offset_s is None:
            self._offset_s = arrival_s - pts_s
        else:
            leaked = self._offset_s + LEAK_PER_S * max(arrival_s - self._arrival_s, 0.0)
            self._offset_s = min(leaked, arrival_s - pts_s)
        self._pts_s, self._arrival_s = pts_s, arrival_s
        return self._given(pts_s + self._offset_s, None)

    def _fault(self, pts_s: float | None, arrival_s: float) -> Fault | None:
        if pts_s is None:
            return "missing"
        if self._offset_s is None:
            return None
        if pts_s <= self._pts_s:
            return "backward"
        if (pts_s - self._pts_s) - (arrival_s - self._arrival_s) > JUMP_S + (self._arrival_s - self._captured_s):
            return "jump"
        return "lag" if arrival_s - (pts_s + self._offset_s) > LAG_S else None

    def _note_fault(self, pts_s: float | None, arrival_s: float) -> None:
        self._offset_s = None if pts_s is None else arrival_s - pts_s
        self._pts_s, self._arrival_s = pts_s if pts_s is not None else 0.0, arrival_s
        self._faults = [frame for frame in self._faults if self._frames - frame < FAULTS_WINDOW] + [self._frames]
        self.lying = len(self._faults) >= FAULTS_LIMIT

    def _given(self, captured_s: float, fault: Fault | None) -> Stamp:
        if captured_s > self._captured_s - STEPPED_S:
            captured_s = max(captured_s, self._captured_s + STEP_S)
        self._captured_s = captured_s
        return Stamp(self._captured_s, fault)
