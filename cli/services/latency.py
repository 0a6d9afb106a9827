"""How late a fleet's answers are: each decision, from its frame's capture until it can be read from the database by another process."""

import asyncio
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from types import TracebackType

import numpy as np

from core.adapters.postgres import open_database
from core.schema import StageTimes
from sightings.live import follow_live
from sightings.record import StoredSighting
from sightings.store import SightingStore

STAGES = ("publish", "queue", "decode", "detect", "embed", "match", "decide", "store")
START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One decision."""

    times: StageTimes
    seen_s: float
    """Unix time at which it was read back from the database."""
    appeared_s: float | None = None
    """Capture time of the track's first frame, for the first message of a sighting."""

    @property
    def latency_ms(self) -> float:
        """Capture to stored and seen."""
        return (self.seen_s - self.times.captured_s) * 1e3

    def stages_ms(self) -> dict[str, float]:
        """Return how long each stage took."""
        t = self.times
        received_s = t.received_s or t.published_s
        marks = (t.captured_s, t.published_s, received_s, t.decoded_s or received_s, t.detected_s, t.embedded_s, t.matched_s, t.decided_s)
        return {stage: (after - before) * 1e3 for stage, before, after in zip(STAGES, marks, (*marks[1:], self.seen_s), strict=True)}


class LatencyWatch:
    """Follows the stored sightings from a thread of its own. Use as a context manager. Thread rule: any thread."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self._url, self._data_dir = url, data_dir
        self._samples: list[Sample] = []
        self._told: dict[str, tuple[str, str | None]] = {}
        self._events: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow()), name="latency", daemon=True)

    def __enter__(self) -> "LatencyWatch":
        self._thread.start()
        self._ready.wait(START_TIMEOUT_S)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if self._events is not None and self._task is not None:
            self._events.call_soon_threadsafe(self._task.cancel)
        self._thread.join(START_TIMEOUT_S)

    def between(self, first_s: float, last_s: float) -> list[Sample]:
        """Return the decisions that were seen in a stretch of time."""
        return [sample for sample in list(self._samples) if first_s <= sample.seen_s <= last_s]

    async def _follow(self) -> None:
        self._events, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            async with open_database(self._url, data_dir=self._data_dir, migrations=files("deploy") / "migrations") as db:
                self._ready.set()
                await follow_live(db, SightingStore(db, episode_gap=timedelta(seconds=30)), self._note)
        except asyncio.CancelledError:
            return
        finally:
            self._ready.set()

    def _note(self, stored: StoredSighting) -> None:
        """Take what a recognizer tells at once: a sighting's first revision, and a change of who it is.

        Other revisions refresh a live sighting every two seconds, or end it: the frame that decided it lies further back.
        """
        sighting = stored.sighting
        decision = (sighting.outcome, sighting.subject_id)
        if not sighting.closed and self._told.get(sighting.sighting_id) != decision:
            appeared_s = None if sighting.sighting_id in self._told else sighting.first_s
            self._samples.append(Sample(times=sighting.times, seen_s=time.time(), appeared_s=appeared_s))
        self._told[sighting.sighting_id] = decision


def percentile(values: list[float], percent: float) -> float:
    """Return a percentile; infinite without values."""
    return float(np.percentile(values, percent)) if values else float("inf")
