"""Whose is a stranger's face: one of the unknown persons', or somebody new? Pure: no clock, no database, no randomness.

A face joins a person when it reaches the threshold with one of the person's exemplars and most of the others speak for it too. The second
condition stops chains: A like B and B like C does not make A and C one person.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from core.types import F32
from embed.calibration import Calibration
from sightings.record import SeenFace

PERSON_NAMESPACE: Final = uuid.UUID("0d2ec5a1-6c0f-5f6e-9d61-7b8f6a3c5e14")
MIN_QUALITY: Final = 0.4
"""Poorer faces are left out: below .3 most genuine ones miss their threshold, and they would found persons of their own."""
MOST_EXEMPLARS: Final = 8  # as many as a track's shots: more added nothing
AGREEING_SHARE: Final = 0.5  # of the exemplars that must speak for a face
AGREEING_FAR: Final = 1e-2  # at which an exemplar speaks for a face: the same person turned, not just anybody
CLEAR_MARGIN: Final = 0.03  # two persons this near can't be told apart, so neither gets the face
NEW_EXEMPLAR: Final = 0.9  # a face that is nearer to an exemplar than this adds nothing

Verdict = Literal["joined", "new", "left_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The scores that are asked for."""

    join: float
    """With the nearest exemplar."""
    agree: float
    """With the others that speak for it."""

    @classmethod
    def of(cls, calibration: Calibration, *, far: float, persons: int) -> "Bounds":
        """Return the scores at which a stranger's track joins any of so many persons wrongly with probability ``far``."""
        join = calibration.threshold(kind="track", fpir=far, gallery_size=persons * MOST_EXEMPLARS)
        return cls(join=join, agree=min(join, calibration.score_at(AGREEING_FAR, kind="track")))


@dataclass(frozen=True, slots=True)
class Placed:
    """What becomes of a face."""

    verdict: Verdict
    person_id: str | None
    """Whom it joins."""
    exemplar: bool = False
    """It becomes one of the person's exemplars."""


def place(face: SeenFace, persons: Mapping[str, Sequence[F32]], bounds: Bounds) -> Placed:
    """Decide whose a face is.

    Args:
        face: the stranger's.
        persons: exemplars of whoever may be meant: at least all persons one of whose exemplars reaches ``bounds.join``.
        bounds: the scores.
    """
    if face.quality < MIN_QUALITY:
        return Placed("left_out", None)
    scores = {key: np.stack(exemplars) @ face.embedding for key, exemplars in persons.items() if len(exemplars)}
    near = sorted((key for key, own in scores.items() if own.max() >= bounds.join), key=lambda key: (-float(scores[key].max()), key))
    agreeing = [key for key in near if np.mean(scores[key] >= bounds.agree) > AGREEING_SHARE or len(scores[key]) == 1]
    if not agreeing:
        return Placed("left_out", None) if near else Placed("new", None, exemplar=True)
    best = agreeing[0]
    if len(agreeing) > 1 and scores[best].max() - scores[agreeing[1]].max() < CLEAR_MARGIN:
        return Placed("left_out", None)
    own = scores[best]
    adds = len(own) < MOST_EXEMPLARS and bool(own.max() < NEW_EXEMPLAR and (own >= bounds.agree).all())
    return Placed("joined", best, exemplar=adds)


def person_id_of(sighting_id: str) -> str:
    """Return the id of the person whom a sighting founds: a repetition makes the same."""
    return str(uuid.uuid5(PERSON_NAMESPACE, sighting_id))
