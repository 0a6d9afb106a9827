"""A track and its decision become a Sighting message. Pure, but for the JPEG of its best shot."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from core.jpeg import encode_jpeg
from core.schema import Array, Sighting, StageTimes, TrackPoint, sighting_id_of
from core.types import Image
from detect.tracks import Track
from recognize.decide import Decision
from recognize.vision import crop_of

THUMBNAIL_PX = 256  # longest side: enough for a person to compare faces, 8 to 15 KB
THUMBNAIL_QUALITY = 85
THUMBNAIL_MARGIN = 0.4  # of the face box on each side: hair and shoulders help people


@dataclass(slots=True, kw_only=True)
class TrackStory:
    """What the recognizer remembers of a live track beside its place."""

    decision: Decision
    times: StageTimes
    best_s: float
    best_box: tuple[float, float, float, float]
    best_quality: float
    picture: Image
    """Crop around the best shot, at most THUMBNAIL_PX a side, RGB."""
    revision: int = 0
    shards_missing: int = 0
    told: tuple[str, str | None] | None = None
    """Outcome and subject id of the last message."""
    told_at_s: float = field(default=float("-inf"))


def picture_of(image: Image, track: Track) -> Image:
    """Return an own copy of the surroundings of a track's face, shrunk to THUMBNAIL_PX."""
    view = crop_of(image, track.box, margin=THUMBNAIL_MARGIN)
    scale = THUMBNAIL_PX / max(view.shape[:2])
    if scale >= 1:
        return view.copy()
    size = (max(1, round(view.shape[1] * scale)), max(1, round(view.shape[0] * scale)))
    return np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA), np.uint8)


def sighting_of(track: Track, story: TrackStory, origin: Mapping[str, str], *, closed: bool) -> tuple[Sighting, bytes]:
    """Return the message and the JPEG thumbnail of a track.

    Args:
        track: its place and shots.
        story: its decision.
        origin: camera, region, collection and model.
        closed: whether the track has ended.
    """
    best = story.decision.best
    named = story.decision.outcome == "subject" and best is not None
    fused = track.fused()
    message = Sighting(
        sighting_id=sighting_id_of(track.track_id),
        track_id=track.track_id,
        camera=origin["camera"],
        region=origin["region"],
        revision=story.revision,
        closed=closed,
        outcome=story.decision.outcome,
        reason=story.decision.reason,
        collection=origin["collection"],
        subject_id=best.subject_id if named and best else None,
        subject=best.subject if named and best else None,
        reference_id=best.reference_id if named and best else None,
        score=best.score if best else None,
        threshold=story.decision.threshold,
        model=origin["model"],
        quality=story.best_quality,
        faces=track.hits,
        first_s=track.first_s,
        last_s=track.last_s,
        best_s=story.best_s,
        best_box=story.best_box,
        path=tuple(TrackPoint(*point) for point in track.path),
        times=story.times,
        embedding=None if fused is None else Array.pack(fused.vector),
        shards_missing=story.shards_missing,
    )
    return message, encode_jpeg(story.picture, THUMBNAIL_QUALITY)
