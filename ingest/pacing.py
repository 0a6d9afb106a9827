"""When to play the next recorded frame, and when to try a camera again. Pure: the time and the random generator are passed in."""

import numpy as np

LATE_S = 1.0  # a recording that falls behind by more is not caught up with: its clock is moved
USUAL_FRAME_S = 0.04  # for recordings without timestamps
BACKOFF_FIRST_S, BACKOFF_LIMIT_S = 0.5, 30.0  # a camera that reboots is back within a minute; a dead one is asked twice a minute


def backoff_s(attempt: int, rng: np.random.Generator) -> float:
    """Return how long to wait before the next attempt (0 = after the first failure).

    Doubles from BACKOFF_FIRST_S to BACKOFF_LIMIT_S; the upper half is random, so that a hundred cameras behind one
    switch do not come back in step.
    """
    longest = min(BACKOFF_FIRST_S * 2.0 ** min(attempt, 16), BACKOFF_LIMIT_S)
    return longest * float(rng.uniform(0.5, 1.0))


class Pacer:
    """Plays a recording in real time. Due times are reckoned from one anchor, so they do not drift. Thread rule: one thread."""

    def __init__(self) -> None:
        self._anchor_s: float | None = None
        self._due_s: float | None = None
        self._step_s = USUAL_FRAME_S
        self.late = 0
        """How often the recording fell behind and its clock was moved."""

    def restart(self) -> None:
        """Go on with the first frame of the recording, one frame after the last one played."""
        self._anchor_s = None

    def due_s(self, pts_s: float | None, now_s: float) -> float:
        """Return when the next frame is to be shown (Unix time); strictly growing.

        Args:
            pts_s: the frame's time in the recording, None if it has none.
            now_s: Unix time now.
        """
        after_s = now_s if self._due_s is None else self._due_s + self._step_s
        due_s = after_s if pts_s is None or self._anchor_s is None else self._anchor_s + pts_s
        if self._due_s is not None and due_s <= self._due_s:
            due_s, self._anchor_s = after_s, None  # a clock that stands still or goes back
        if now_s - due_s > LATE_S:
            due_s, self._anchor_s = now_s, None
            self.late += 1
        if self._anchor_s is None and pts_s is not None:
            self._anchor_s = due_s - pts_s
        elif self._due_s is not None and 0.0 < due_s - self._due_s < 1.0:
            self._step_s = due_s - self._due_s
        self._due_s = due_s
        return due_s
