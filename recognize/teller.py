"""Says what there is to say of tracks: what is new, better known, or over."""

from collections.abc import Sequence

from core.live import LiveTracks
from core.metrics import Metrics
from core.schema import Sighting
from detect.tracks import Track
from recognize.incomplete import Incomplete, IncompleteSightings
from recognize.lines import Camera, Line
from recognize.outcome import TrackStory, dropped, sighting_of
from recognize.shown import Passing

CONFIRM_SCORE = 0.75  # a face seen once counts when the detector is this sure; otherwise it must be seen twice
TELL_EVERY_S = 2.0  # a live sighting's last_s is refreshed this often

Told = tuple[Sighting, bytes]
"""A sighting and its JPEG thumbnail."""


class Teller:
    """Tracks as messages. Thread rule: one event loop."""

    def __init__(
        self, *, collection: str, model: str, live: LiveTracks, hold_s: float, incomplete: IncompleteSightings, metrics: Metrics
    ) -> None:  # fmt: skip
        """Compose one.

        Args:
            collection: the gallery that is asked.
            model: id of the embedding model.
            live: told which cameras hold a live track.
            hold_s: for how long after a track was seen.
            incomplete: takes the sightings that not every shard has answered.
            metrics: of the process.
        """
        self._origin = {"collection": collection, "model": model}
        self._live = live
        self._hold_s = hold_s
        self._incomplete = incomplete
        self._metrics = metrics

    def tell(self, seen: Passing, now_s: float) -> list[Told]:
        """Return the sightings of a frame's tracks that have something to say, as of ``now_s``; keep the camera's gate open."""
        line, camera = seen.line, seen.camera
        tracks = seen.update.tracks if seen.update else ()
        told: list[Told] = []
        for track in tracks:
            story = line.stories.get(track.track_id)
            if story is None or not _confirmed(track, story):
                continue
            if story.decision.outcome == "opted_out":
                told += self._drop(camera, track, story)
                continue
            if story.closed or story.state != story.told or track.last_s - story.told_at_s >= TELL_EVERY_S:
                if story.told is None:
                    if story.times.captured_s < seen.shown.frame.captured_s:  # known since an earlier frame, confirmed by this one
                        story.times = seen.times(embedded_s=now_s, matched_s=now_s, decided_s=now_s)
                    self._metrics.sighting_seconds.labels(camera.region).observe(max(0.0, story.times.decided_s - story.times.captured_s))
                told.append(self._message(camera, track, story, closed=False))
        if tracks and camera.is_present(line):
            self._live.hold(camera.name, max(track.last_s for track in tracks) + self._hold_s, region=camera.region)
        return told

    def ended(self, camera: Camera, line: Line, tracks: Sequence[Track]) -> list[Told]:
        """Return the last word on tracks of which it was not said yet; they may still go on."""
        told: list[Told] = []
        for track, story in [(track, line.stories[track.track_id]) for track in tracks if track.track_id in line.stories]:
            if story.decision.outcome == "opted_out":
                told += self._drop(camera, track, story)
            elif _untold(track, story):
                told.append(self._message(camera, track, story, closed=True))
        return told

    def close(self, camera: Camera, line: Line, tracks: Sequence[Track]) -> list[Told]:
        """Return the last word on tracks that their tracker has given up, and forget them."""
        told = self.ended(camera, line, tracks)
        for track in tracks:
            line.stories.pop(track.track_id, None)
        return told

    def close_line(self, camera: Camera, line: Line) -> list[Told]:
        """Close every track of a line."""
        return self.close(camera, line, line.tracker.expire(0.0, everything=True))

    def _drop(self, camera: Camera, track: Track, story: TrackStory) -> list[Told]:
        """Return what takes a track back that was told before it was known to be somebody who has opted out; nothing otherwise."""
        if story.dropped:
            return []
        told = story.told is not None
        story.drop()
        self._metrics.opted_out.labels(camera.name, camera.region).inc()
        if not told:
            return []
        sighting, _ = self._message(camera, track, story, closed=True)
        return [(dropped(sighting, revision=sighting.revision), b"")]

    def _message(self, camera: Camera, track: Track, story: TrackStory, *, closed: bool) -> Told:
        origin = {**self._origin, "camera": camera.name, "region": camera.region}
        sighting, thumbnail = sighting_of(track, story, origin, closed=closed)
        quality = track.best_quality
        if story.shards_missing and not story.dropped and quality is not None and (fused := track.fused()) is not None:
            item = Incomplete(
                told=sighting, story=story, probe=fused.vector, agreement=fused.agreement, quality=quality, height_px=track.max_height_px
            )
            self._metrics.incomplete_dropped.inc(self._incomplete.add(item))
        else:
            self._incomplete.discard(sighting.sighting_id)
        self._metrics.incomplete.set(len(self._incomplete))
        return sighting, thumbnail


def _untold(track: Track, story: TrackStory) -> bool:
    return not story.closed and _confirmed(track, story)


def _confirmed(track: Track, story: TrackStory) -> bool:
    """Return whether a track is worth telling: seen twice, surely a face, or known."""
    return track.hits >= 2 or track.best_detector_score >= CONFIRM_SCORE or story.decision.outcome == "subject"
