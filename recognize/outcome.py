"""A track and its decision become a Sighting message. Pure, but for the JPEG of its best shot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import msgspec
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

REPLAY_STEP = 1_000_000  # revisions a second of the clock: one replay of a track is above the last, and all stay below 2**53

State = tuple[str, str | None, bool]
"""What people are told of a track: outcome, subject id, and whether every shard was asked."""


@dataclass(slots=True, kw_only=True)
class TrackStory:
    """What the recognizer remembers of a live track beside its place."""

    decision: Decision
    times: StageTimes
    best_s: float
    best_box: tuple[float, float, float, float]
    best_quality: float
    picture: Image | None
    """Crop around the best shot, at most THUMBNAIL_PX a side, RGB; None once it is kept as a JPEG."""
    jpeg: bytes = b""
    """The picture as it was told last."""
    revision: int = 0
    shards_missing: int = 0
    told: State | None = None
    """What the last message said; None before the first."""
    told_at_s: float = field(default=float("-inf"))
    replayed_s: float = 0.0
    """See next_revision."""
    closed: bool = False
    """The last message said that the track has ended."""
    dropped: bool = False
    """It is somebody who has opted out: nothing more is told."""

    @property
    def state(self) -> State:
        """What there is to tell now."""
        best = self.decision.best if self.decision.outcome == "subject" else None
        return self.decision.outcome, best.subject_id if best else None, self.shards_missing == 0

    def drop(self) -> None:
        """Keep nothing that shows who it is, and tell nothing more."""
        self.dropped, self.picture, self.jpeg = True, None, b""

    def thumbnail(self) -> bytes:
        """Return the JPEG of the picture, made once."""
        if self.picture is not None:
            self.jpeg, self.picture = encode_jpeg(self.picture, THUMBNAIL_QUALITY), None
        return self.jpeg


def next_revision(before: int, *, lasted_s: float, closed: bool, complete: bool, replayed_s: float = 0.0) -> int:
    """Return the revision of a sighting's next message. Pure.

    It grows with the time that the track covers, by capture times; of two messages up to the same frame the one that ends the track is
    higher, then the one that every shard answered. So a recognizer that starts anew with the same frames, after a crash or a rebalance,
    reaches the revisions that were published before, and is never ignored for want of them.

    Args:
        before: of the last message, 0 before the first.
        lasted_s: from the track's first frame to its last, capture times.
        closed: whether the message says that the track has ended.
        complete: whether every shard of the gallery was asked.
        replayed_s: when an operator had the track looked at anew, Unix seconds; 0 = it is no replay. What is found then is above what
            was found before, however often it is done.
    """
    return max(before + 1, REPLAY_STEP * int(replayed_s) + 8 * int(1000 * max(0.0, lasted_s)) + 4 * closed + 3 * complete)


def picture_of(image: Image, track: Track) -> Image:
    """Return an own copy of the surroundings of a track's face, shrunk to THUMBNAIL_PX."""
    view = crop_of(image, track.box, margin=THUMBNAIL_MARGIN)
    scale = THUMBNAIL_PX / max(view.shape[:2])
    if scale >= 1:
        return view.copy()
    size = (max(1, round(view.shape[1] * scale)), max(1, round(view.shape[0] * scale)))
    return np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA), np.uint8)


def decided_fields(decision: Decision) -> dict[str, Any]:
    """Return the fields of a Sighting that a decision fills."""
    best = decision.best
    named = best if decision.outcome == "subject" else None
    return {
        "outcome": "unclear" if decision.outcome == "opted_out" else decision.outcome,
        "reason": decision.reason,
        "subject_id": named.subject_id if named else None,
        "subject": named.subject if named else None,
        "reference_id": named.reference_id if named else None,
        "score": best.score if best else None,
        "threshold": decision.threshold,
        "weak_for": decision.weak_for,
    }


def dropped(told: Sighting, *, revision: int) -> Sighting:
    """Return the message that takes a sighting back, with nothing in it of what was told before but where and when."""
    return msgspec.structs.replace(
        told, revision=revision, dropped=True, closed=True, outcome="unclear", reason="opted_out", subject_id=None, subject=None,
        reference_id=None, score=None, weak_for=(), quality=0.0, best_box=(0.0, 0.0, 0.0, 0.0), path=(), embedding=None, shards_missing=0,
    )  # fmt: skip


def sighting_of(track: Track, story: TrackStory, origin: Mapping[str, str], *, closed: bool) -> tuple[Sighting, bytes]:
    """Return the next message of a track and its JPEG thumbnail; its story remembers that it was told.

    Args:
        track: its place and shots.
        story: its decision.
        origin: camera, region, collection and model.
        closed: whether the track has ended.
    """
    complete = story.shards_missing == 0
    lasted_s = track.last_s - track.first_s
    story.revision = next_revision(story.revision, lasted_s=lasted_s, closed=closed, complete=complete, replayed_s=story.replayed_s)
    story.told, story.told_at_s, story.closed = story.state, track.last_s, closed
    fused = track.fused()
    message = Sighting(
        sighting_id=sighting_id_of(track.track_id),
        track_id=track.track_id,
        camera=origin["camera"],
        region=origin["region"],
        collection=origin["collection"],
        model=origin["model"],
        revision=story.revision,
        closed=closed,
        **decided_fields(story.decision),
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
    return message, story.thumbnail()
