"""Asks the gallery who tracks are, and decides; again, when a shard was away."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from core.metrics import Metrics
from core.ports import MatchAnswer, Matcher
from core.schema import Sighting, StageTimes
from core.types import F32
from detect.tracks import Fused, Track
from recognize.decide import Decision, decide, revise
from recognize.incomplete import Incomplete, IncompleteSightings, answered
from recognize.judge import Face, Judge
from recognize.outcome import TrackStory, picture_of
from recognize.patience import Patience
from recognize.rules.rules import Scope
from recognize.shown import Passing

CANDIDATES = 5  # enough to see whether the second is as close as the first
ASK_AGAIN_BATCH = 64  # incomplete sightings in one question


class Asker:
    """The gallery's answers, as decisions. Thread rule: one event loop; ``ask`` and ``complete`` may run side by side."""

    def __init__(self, *, matcher: Matcher, judge: Judge, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._matcher = matcher
        self._judge = judge
        self._metrics = metrics
        self._clock = clock
        self._patience = Patience("a matcher", waiting=metrics.matcher_waiting.set, waited=metrics.matcher_waited.inc)
        self.incomplete = IncompleteSightings()

    async def ask(self, asked: Sequence[tuple[Passing, Track]], *, embedded_s: float) -> None:
        """Look up tracks that got a new shot and decide them; their stories take it over. Waits as long as no shard answers."""
        fused = [(seen, track, found) for seen, track in asked if (found := track.fused()) is not None]
        if not fused:
            return
        began_s = self._clock()
        answer = await self._patience.until_done(lambda: self._search([found.vector for _, _, found in fused]))
        matched_s = self._clock()
        for row, (seen, track, found) in enumerate(fused):
            decision = self._decide(seen, track, (answer, row), found)
            times = seen.times(embedded_s=embedded_s, matched_s=matched_s, decided_s=self._clock())
            story = _story(seen, track, decision, times)
            story.decision, story.times, story.shards_missing = decision, times, answer.shards_missing
        self._metrics.stage_seconds.labels("match").observe(max(0.0, matched_s - began_s))
        self._metrics.stage_seconds.labels("decide").observe(max(0.0, self._clock() - matched_s))

    async def complete(self) -> list[tuple[Sighting, bytes]]:
        """Ask again about incomplete sightings; see Recognizer.complete.

        Raises:
            UnavailableError: no shard answers.
        """
        told: list[tuple[Sighting, bytes]] = []
        for _ in range(1 + len(self.incomplete) // ASK_AGAIN_BATCH):
            items = self.incomplete.take_turns(ASK_AGAIN_BATCH)
            if not items:
                break
            answer = await self._search([item.probe for item in items])
            for row, item in enumerate(items):
                if self.incomplete.holds(item):  # nothing newer was told of it while the question was out
                    told += self._answered(item, answer, row)
            if answer.shards_missing:
                break
        self._metrics.incomplete.set(len(self.incomplete))
        return told

    async def _search(self, probes: Sequence[F32]) -> MatchAnswer:
        collection = self._judge.policy.settings.collection
        return await self._matcher.search(np.stack(probes), model=self._judge.model, collection=collection, k=CANDIDATES)

    def _decide(self, seen: Passing, track: Track, of: tuple[MatchAnswer, int], found: Fused) -> Decision:
        story, quality = seen.line.stories.get(track.track_id), track.best_quality
        assert quality is not None  # a refreshed track has a shot
        face = Face(vector=found.vector, quality=quality, height_px=track.max_height_px, agreement=found.agreement)
        scope = Scope(collection=self._judge.policy.settings.collection, camera=seen.camera.name)
        evidence = self._judge.evidence(*of, face, scope)
        return decide(evidence) if story is None else revise(story.decision, evidence)

    def _answered(self, item: Incomplete, answer: MatchAnswer, row: int) -> list[tuple[Sighting, bytes]]:
        told = answered(item, answer, row, self._judge)
        if told is None:
            return []
        now_s = self._clock()
        item.told = msgspec.structs.replace(told, times=msgspec.structs.replace(told.times, matched_s=now_s, decided_s=now_s))
        if told.dropped:
            self._metrics.opted_out.labels(told.camera, told.region).inc()
        if not told.shards_missing or told.dropped:
            self.incomplete.discard(told.sighting_id)
            self._metrics.completed.inc()
        return [(item.told, b"" if told.dropped else item.story.thumbnail())]


def _story(seen: Passing, track: Track, decision: Decision, times: StageTimes) -> TrackStory:
    """Return the story of a track, with this frame's picture if it shows the face best so far."""
    stories, newest, shot_s = seen.line.stories, track.shots[0], seen.shown.frame.captured_s
    x1, y1, x2, y2 = (float(v) for v in track.box)
    story = stories.get(track.track_id)
    if story is None:
        story = stories[track.track_id] = TrackStory(
            decision=decision, times=times, best_s=shot_s, best_box=(x1, y1, x2, y2), best_quality=newest.quality.value,
            picture=picture_of(seen.shown.frame.image, track), replayed_s=seen.shown.replayed_s,
        )  # fmt: skip
    elif not story.dropped and newest.t_s == seen.now_s and newest.quality.value > story.best_quality:
        story.best_s, story.best_box, story.best_quality = shot_s, (x1, y1, x2, y2), newest.quality.value
        story.picture = picture_of(seen.shown.frame.image, track)
    return story
