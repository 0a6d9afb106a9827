"""Cosines as the similarities that clients of other systems expect. Pure."""

import math
from dataclasses import dataclass
from typing import Final

from embed.calibration import Calibration

USUAL_FAR: Final = 1e-3
USUAL_SIMILARITY: Final = 0.9
"""Clients take a similarity from about here on for the same person: so it is where one comparison in a thousand is a false match."""
EVEN_FAR: Final = 0.1
"""Where the similarity is one half: one comparison in ten of two different people reaches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """(tanh((c0 - d) * c1) + 1) / 2, with d the distance of two unit vectors, as CompreFace has it; c0 and c1 from our calibration."""

    c0: float
    c1: float

    @classmethod
    def of(cls, calibration: Calibration) -> "Similarity":
        """Return the mapping of a model."""
        usual, even = (_distance(calibration.score_at(far, kind="single")) for far in (USUAL_FAR, EVEN_FAR))
        return cls(c0=even, c1=math.atanh(2 * USUAL_SIMILARITY - 1) / max(1e-6, even - usual))

    def value(self, cosine: float) -> float:
        """Return the similarity, 0..1, of a cosine, -1..1."""
        return (math.tanh((self.c0 - _distance(cosine)) * self.c1) + 1) / 2

    def cosine(self, similarity: float) -> float:
        """Return the cosine, -1..1, from which on a similarity (0..1) is reached."""
        distance = self.c0 - math.atanh(min(1 - 1e-9, max(-1 + 1e-9, 2 * similarity - 1))) / self.c1
        return min(1.0, max(-1.0, 1 - min(2.0, max(0.0, distance)) ** 2 / 2))


def _distance(cosine: float) -> float:
    return math.sqrt(max(0.0, 2 - 2 * min(1.0, max(-1.0, cosine))))
