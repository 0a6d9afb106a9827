"""Frames in, sightings out: detect, track, embed the best shots, ask the gallery, decide. Batched across cameras."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.live import LiveTracks
from core.metrics import Metrics
from core.ports import MatchAnswer, Matcher
from core.schema import Sighting, StageTimes
from core.types import Frame
from detect.cuts import CutDetector
from detect.tracker import Look, Tracker, TrackerSettings, Update
from detect.tracks import Track
from recognize.decide import Decision, Evidence, decide, revise
from recognize.outcome import TrackStory, picture_of, sighting_of
from recognize.threshold import ThresholdPolicy
from recognize.vision import Vision

CANDIDATES = 5  # enough to see whether the second is as close as the first
CONFIRM_SCORE = 0.75  # a face seen once counts when the detector is this sure; otherwise it must be seen twice
TELL_EVERY_S = 2.0  # a live sighting's last_s is refreshed this often

Told = tuple[Sighting, bytes]
"""A sighting and its JPEG thumbnail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A frame with what its header said."""

    frame: Frame
    region: str
    published_s: float
    scene_cut: bool = False


@dataclass(slots=True, kw_only=True)
class _Camera:
    region: str
    tracker: Tracker
    cuts: CutDetector = field(default_factory=CutDetector)
    stories: dict[str, TrackStory] = field(default_factory=dict)


class Recognizer:
    """The state of all cameras of one worker. Thread rule: one task; the models run in Vision's thread."""

    def __init__(
        self,
        *,
        vision: Vision,
        matcher: Matcher,
        policy: ThresholdPolicy,
        live: LiveTracks | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._vision = vision
        self._matcher = matcher
        self._policy = policy
        self._live = live or LiveTracks()
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._cameras: dict[str, _Camera] = {}
        calibration = policy.calibration
        self._tracking = TrackerSettings(
            different_below=calibration.score_at(0.1, kind="single"),
            same_above=calibration.score_at(0.01, kind="single"),
            reembed_s=policy.settings.reembed_s,
        )

    async def process(self, batch: Sequence[Shown]) -> list[Told]:
        """Look at frames, in capture order per camera, and return the sightings that are new, better known or closed.

        Raises:
            UnavailableError: when the matcher does not answer; the frames are then not finished.
        """
        looks = await self._vision.call(self._vision.look, [shown.frame.image for shown in batch])
        detected_s = self._clock()
        told: list[Told] = []
        for wave in _waves(batch, looks):
            told += await self._wave(wave, detected_s)
        for shown, look in zip(batch, looks, strict=True):
            self._metrics.faces_detected.labels(shown.frame.camera, shown.region).inc(len(look.faces))
        return told

    def expire(self, now_s: float) -> list[Told]:
        """Close the tracks that no frame has continued for too long; for cameras that fell silent."""
        told: list[Told] = []
        for name, camera in self._cameras.items():
            told += self._close(name, camera, camera.tracker.expire(now_s))
        return told

    def finish(self) -> list[Told]:
        """Close every track: the video has ended or the worker drains."""
        told: list[Told] = []
        for name, camera in self._cameras.items():
            told += self._close(name, camera, camera.tracker.expire(0.0, everything=True))
        return told

    async def _wave(self, wave: Sequence[tuple[Shown, Look]], detected_s: float) -> list[Told]:
        """Process frames of which no two are of one camera."""
        told: list[Told] = []
        wanted: list[tuple[int, ...]] = []
        for shown, look in wave:
            camera = self._camera(shown)
            cut = camera.cuts.update(shown.frame.image) or shown.scene_cut
            plan = camera.tracker.plan(shown.frame.captured_s, look, cut=cut)
            told += self._close(shown.frame.camera, camera, plan.ended)
            wanted.append(plan.wanted)
        faces = [look.faces.take(np.array(w, int)) for (_, look), w in zip(wave, wanted, strict=True)]
        embeddings = await self._vision.call(self._vision.embed_shots, [shown.frame.image for shown, _ in wave], faces)
        embedded_s = self._clock()
        updates: list[Update] = []
        for (shown, look), indices, found in zip(wave, wanted, embeddings, strict=True):
            vectors = dict(zip(indices, found.vectors, strict=True))
            tracker = self._camera(shown).tracker
            updates.append(tracker.update(shown.frame.captured_s, look, vectors, frame_id=shown.frame.frame_id))
            self._metrics.faces_embedded.labels(shown.frame.camera, shown.region).inc(len(indices))
        times = (detected_s, embedded_s)
        await self._ask([(shown, track) for (shown, _), u in zip(wave, updates, strict=True) for track in u.refreshed], times)
        for (shown, _), update in zip(wave, updates, strict=True):
            told += self._tell(shown, update.tracks)
        return told

    async def _ask(self, asked: Sequence[tuple[Shown, Track]], times: tuple[float, float]) -> None:
        """Look up tracks in the gallery and decide them."""
        fused = [(shown, track, found) for shown, track in asked if (found := track.fused()) is not None]
        if not fused:
            return
        probes = np.stack([found.vector for _, _, found in fused])
        collection = self._policy.settings.collection
        answer = await self._matcher.search(probes, model=self._vision.embedder.model, collection=collection, k=CANDIDATES)
        matched_s = self._clock()
        for row, (shown, track, found) in enumerate(fused):
            threshold = self._policy.track(answer.references, found.agreement)
            decision = self._decide(shown, track, answer, row, threshold)
            stage = StageTimes(
                captured_s=shown.frame.captured_s,
                published_s=shown.published_s,
                detected_s=times[0],
                embedded_s=times[1],
                matched_s=matched_s,
                decided_s=self._clock(),
            )
            self._remember(shown, track, decision, TrackFacts(stage, answer.shards_missing))

    def _decide(self, shown: Shown, track: Track, answer: MatchAnswer, row: int, threshold: float) -> Decision:
        quality = track.best_quality
        assert quality is not None  # a refreshed track has a shot
        evidence = Evidence(
            candidates=answer.candidates[row],
            threshold=threshold,
            quality=quality,
            height_px=track.max_height_px,
            min_height_px=self._policy.settings.min_face_px,
        )
        story = self._camera(shown).stories.get(track.track_id)
        return decide(evidence) if story is None else revise(story.decision, evidence)

    def _remember(self, shown: Shown, track: Track, decision: Decision, facts: "TrackFacts") -> None:
        stories = self._camera(shown).stories
        story = stories.get(track.track_id)
        shot_s, newest = shown.frame.captured_s, track.shots[0]
        if story is None or (newest.t_s == shot_s and newest.quality.value > story.best_quality):
            x1, y1, x2, y2 = (float(v) for v in track.box)
            old = story
            story = TrackStory(
                decision=decision,
                times=facts.times,
                best_s=shot_s,
                best_box=(x1, y1, x2, y2),
                best_quality=newest.quality.value,
                picture=picture_of(shown.frame.image, track),
            )
            if old is not None:
                story.revision, story.told, story.told_at_s = old.revision, old.told, old.told_at_s
            stories[track.track_id] = story
        story.decision, story.times, story.shards_missing = decision, facts.times, facts.shards_missing

    def _tell(self, shown: Shown, tracks: Sequence[Track]) -> list[Told]:
        """Return the sightings of a frame's tracks that have something to say; keep the camera's gate open."""
        camera, name = self._camera(shown), shown.frame.camera
        told: list[Told] = []
        for track in tracks:
            story = camera.stories.get(track.track_id)
            if story is None or not _confirmed(track, story):
                continue
            best = story.decision.best if story.decision.outcome == "subject" else None
            state = (story.decision.outcome, best.subject_id if best else None)
            if state != story.told or track.last_s - story.told_at_s >= TELL_EVERY_S:
                if story.told is None:
                    self._metrics.sighting_seconds.labels(shown.region).observe(max(0.0, story.times.decided_s - story.times.captured_s))
                told.append(self._message(name, camera, track, closed=False))
                story.told, story.told_at_s = state, track.last_s
        if tracks:
            self._live.hold(name, max(track.last_s for track in tracks) + self._tracking.max_gap_s)
        return told

    def _close(self, name: str, camera: _Camera, tracks: Sequence[Track]) -> list[Told]:
        stories = [(track, camera.stories[track.track_id]) for track in tracks if track.track_id in camera.stories]
        told = [self._message(name, camera, track, closed=True) for track, story in stories if _confirmed(track, story)]
        for track in tracks:
            camera.stories.pop(track.track_id, None)
        return told

    def _message(self, name: str, camera: _Camera, track: Track, *, closed: bool) -> Told:
        story = camera.stories[track.track_id]
        story.revision += 1
        origin = {
            "camera": name,
            "region": camera.region,
            "collection": self._policy.settings.collection,
            "model": self._vision.embedder.model,
        }
        return sighting_of(track, story, origin, closed=closed)

    def _camera(self, shown: Shown) -> _Camera:
        camera = self._cameras.get(shown.frame.camera)
        if camera is None:
            camera = self._cameras[shown.frame.camera] = _Camera(region=shown.region, tracker=Tracker(self._tracking))
        return camera


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """What one look-up adds to a track's story."""

    times: StageTimes
    shards_missing: int


def _confirmed(track: Track, story: TrackStory) -> bool:
    """Return whether a track is worth telling: seen twice, surely a face, or known."""
    return track.hits >= 2 or track.best_detector_score >= CONFIRM_SCORE or story.decision.outcome == "subject"


def _waves(batch: Sequence[Shown], looks: Sequence[Look]) -> list[list[tuple[Shown, Look]]]:
    """Split a batch so that no wave holds two frames of one camera; order within a camera is kept."""
    waves: list[list[tuple[Shown, Look]]] = []
    turn: dict[str, int] = {}
    for shown, look in zip(batch, looks, strict=True):
        number = turn.get(shown.frame.camera, 0)
        turn[shown.frame.camera] = number + 1
        if number == len(waves):
            waves.append([])
        waves[number].append((shown, look))
    return waves
