"""Frames in, sightings out: detect, track, embed the best shots, ask the gallery, decide. Batched across cameras."""

import time
from collections.abc import Callable, Collection, Sequence

import numpy as np

from core.live import LiveTracks
from core.metrics import Metrics
from core.ports import Matcher, Partition
from core.types import Embeddings
from detect.tracker import Look, TrackerSettings
from recognize.asker import Asker
from recognize.attempt import Broken, embed_at, look_at
from recognize.judge import Judge
from recognize.lines import Camera, Line
from recognize.rules.rules import Rulebook
from recognize.shown import Passing, Shown
from recognize.teller import Teller, Told
from recognize.threshold import ThresholdPolicy
from recognize.vision import Vision

__all__ = ["Recognizer", "Shown", "Told"]

SILENCE_S = 3.0  # without a frame for so long, a camera's tracks are told as ended
FORGET_S = 60.0  # and after this they are forgotten: what comes later begins anew
STALL_S = 1.0  # ``expire`` is called every half second; a longer pause is the worker's, not the cameras'


class Recognizer:
    """The state of all cameras of one worker. Thread rule: one event loop; the models run in Vision's thread.

    ``process``, ``expire``, ``release`` and ``finish`` are called in turn by one task; ``complete`` may run beside them.
    """

    def __init__(
        self,
        *,
        vision: Vision,
        matcher: Matcher,
        policy: ThresholdPolicy,
        book: Rulebook | None = None,
        live: LiveTracks | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._vision = vision
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._cameras: dict[str, Camera] = {}
        self._looked_s: float | None = None
        self._unsaid: list[Told] = []  # what a call of process that was cancelled had found
        calibration, settings, model = policy.calibration, policy.settings, vision.embedder.model
        self._tracking = TrackerSettings(
            different_below=calibration.score_at(0.1, kind="single"),
            same_above=calibration.score_at(0.01, kind="single"),
            reembed_s=settings.reembed_s,
        )
        judge = Judge(policy=policy, book=book or Rulebook(), model=model)
        self._asker = Asker(matcher=matcher, judge=judge, metrics=self._metrics, clock=clock)
        self._teller = Teller(
            collection=settings.collection,
            model=model,
            live=live or LiveTracks(),
            hold_s=self._tracking.max_gap_s,
            incomplete=self._asker.incomplete,
            metrics=self._metrics,
        )

    @property
    def incomplete(self) -> int:
        """How many sightings wait for a shard of the gallery."""
        return len(self._asker.incomplete)

    async def process(self, batch: Sequence[Shown], *, broken: dict[str, str] | None = None) -> list[Told]:
        """Look at frames and return the sightings that are new, better known or closed.

        Frames of a camera come in capture order, or are tracked on a line of their own (see recognize.lines); a frame that comes again
        is not looked at again. While no shard of the gallery answers, this waits.

        Args:
            batch: of any cameras.
            broken: takes the ids of frames that the models can't take, with the reason; without it such a frame raises.

        Raises:
            Exception: the models fail on any frame.
        """
        fresh = [shown for shown in batch if not self._repeats(shown)]
        if not fresh:
            return []
        began_s = self._clock()
        looks = await look_at(self._vision, [shown.frame.image for shown in fresh])
        detected_s = self._clock()
        told = self._unsaid
        good: list[tuple[Shown, Look]] = []
        for shown, look in zip(fresh, looks, strict=True):
            if isinstance(look, Broken):
                _put_aside(shown, look, broken)
                continue
            good.append((shown, look))
            self._metrics.stage_seconds.labels("detect").observe(max(0.0, detected_s - began_s))
            self._metrics.faces_detected.labels(shown.frame.camera, shown.region).inc(len(look.faces))
        for wave in _waves(good):
            await self._wave(wave, detected_s, broken)
        self._unsaid = []
        return told

    def expire(self, now_s: float) -> list[Told]:
        """Tell that tracks have ended of which no frame came for SILENCE_S; call it every half second.

        What is told may be taken back: if frames come after all, late from a spool or a log that was away, and go on where the last one
        ended, so does the track. Time in which nobody called this is no silence of the cameras.

        Args:
            now_s: the worker's clock, Unix seconds.
        """
        stalled_s = 0.0 if self._looked_s is None else max(0.0, now_s - self._looked_s - STALL_S)
        self._looked_s = now_s
        told: list[Told] = []
        for camera in list(self._cameras.values()):
            for line in list(camera.lines):
                line.touched_s += stalled_s
                silent_s = now_s - line.touched_s
                if silent_s > SILENCE_S:
                    told += self._teller.ended(camera, line, line.tracker.tracks)
                if silent_s > FORGET_S:
                    self._teller.close_line(camera, line)
                    camera.lines.remove(line)
            if not camera.lines:
                del self._cameras[camera.name]
        return told

    def finish(self) -> list[Told]:
        """Close every track and forget every camera: the video has ended or the worker drains."""
        cameras, self._cameras = self._cameras, {}
        unsaid, self._unsaid = self._unsaid, []
        return unsaid + [one for camera in cameras.values() for line in camera.lines for one in self._teller.close_line(camera, line)]

    def release(self, partitions: Collection[Partition]) -> list[Told]:
        """Close the tracks of cameras whose frames go to another worker from now on, and forget these cameras."""
        gone = [camera for camera in self._cameras.values() if camera.partition in partitions]
        for camera in gone:
            del self._cameras[camera.name]
        return [one for camera in gone for line in camera.lines for one in self._teller.close_line(camera, line)]

    async def complete(self) -> list[Told]:
        """Ask again about sightings that were decided while shards were missing, until one is still missing.

        Returns:
            Their further revisions, also of tracks that have ended: what every shard has answered by now, or who was found meanwhile.

        Raises:
            UnavailableError: no shard answers.
        """
        return await self._asker.complete()

    def _repeats(self, shown: Shown) -> bool:
        camera = self._camera(shown)
        camera.partition = shown.partition
        repeats = camera.repeats(shown.frame.frame_id) and not shown.replayed_s
        if repeats:
            self._metrics.frames_repeated.labels(camera.name, camera.region).inc()
        return repeats

    async def _wave(self, wave: Sequence[tuple[Shown, Look]], detected_s: float, broken: dict[str, str] | None) -> None:
        """Process frames of which no two are of one camera."""
        passing = [
            Passing(shown=shown, look=look, camera=self._camera(shown), line=self._line(shown), detected_s=detected_s)
            for shown, look in wave
        ]
        for seen in passing:
            cut = seen.line.cuts.update(seen.shown.frame.image) or seen.shown.scene_cut
            plan = seen.line.tracker.plan(seen.now_s, seen.look, cut=cut)
            self._unsaid += self._teller.close(seen.camera, seen.line, plan.ended)
            seen.wanted = plan.wanted
        began_s = self._clock()
        faces = [seen.look.faces.take(np.array(seen.wanted, int)) for seen in passing]
        found = await embed_at(self._vision, [seen.shown.frame.image for seen in passing], faces)
        embedded_s = self._clock()
        for seen, embeddings in zip(passing, found, strict=True):
            if isinstance(embeddings, Broken):
                _put_aside(seen.shown, embeddings, broken)
            else:
                self._update(seen, embeddings)
                self._metrics.stage_seconds.labels("embed").observe(max(0.0, embedded_s - began_s))
        refreshed = [(seen, track) for seen in passing if seen.update for track in seen.update.refreshed]
        await self._asker.ask(refreshed, embedded_s=embedded_s)
        for seen in passing:
            self._unsaid += self._teller.tell(seen, self._clock())

    def _line(self, shown: Shown) -> Line:
        """Return the line that a frame goes on; what it displaces is closed."""
        camera = self._camera(shown)
        line, fresh = camera.line_for(shown.frame.captured_s, self._tracking, self._clock())
        if fresh and len(camera.lines) > 1:
            self._metrics.time_lines.labels(camera.name, camera.region).inc()
        for surplus in camera.surplus(line):
            self._unsaid += self._teller.close_line(camera, surplus)
        return line

    def _update(self, seen: Passing, found: Embeddings) -> None:
        """Continue the line's tracks with a frame."""
        vectors = {index: vector for index, vector in zip(seen.wanted, found.vectors, strict=True) if np.isfinite(vector).all()}
        seen.update = seen.line.tracker.update(seen.now_s, seen.look, vectors, frame_id=seen.shown.frame.frame_id)
        self._metrics.faces_embedded.labels(seen.camera.name, seen.camera.region).inc(len(seen.wanted))

    def _camera(self, shown: Shown) -> Camera:
        camera = self._cameras.get(shown.frame.camera)
        if camera is None:
            camera = self._cameras[shown.frame.camera] = Camera(name=shown.frame.camera, region=shown.region)
        return camera


def _put_aside(shown: Shown, found: Broken, broken: dict[str, str] | None) -> None:
    """Note that a frame broke the models."""
    if broken is None:
        raise found.error
    broken[shown.frame.frame_id] = found.reason


def _waves(batch: Sequence[tuple[Shown, Look]]) -> list[list[tuple[Shown, Look]]]:
    """Split a batch so that no wave holds two frames of one camera; order within a camera is kept."""
    waves: list[list[tuple[Shown, Look]]] = []
    turn: dict[str, int] = {}
    for shown, look in batch:
        number = turn.get(shown.frame.camera, 0)
        turn[shown.frame.camera] = number + 1
        if number == len(waves):
            waves.append([])
        waves[number].append((shown, look))
    return waves
