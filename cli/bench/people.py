"""Generated embeddings with the spread of real people, for benchmarks of any gallery size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.types import F32

IMPOSTOR_SIGMA = 0.11
"""Standard deviation of the cosine of two strangers. The shipped 512-d embedder has a mean of .012 with 1 % above .274: .11."""
GENUINE_MEAN = 0.65
"""Mean cosine of two pictures of a person: .75 between press photos (70 photos, 16 people), less between a photo and video."""
VIEW_SIGMA = 0.07  # spread of a picture's likeness to its person: some references and probes are poor
REFERENCES_PER_SUBJECT = 3
STRANGERS_PER_PROBE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Unit vectors float32."""

    references: F32
    """(R, D), each subject has at least one, about three, up to a dozen."""
    owners: NDArray[np.int64]
    """(R,): whose each reference is, counted from 0."""
    probes: F32
    """(P, D): other views of enrolled subjects."""
    strangers: F32
    """(S, D): views of people who are not enrolled."""


def generate_people(*, references: int, dimensions: int, probes: int, rng: np.random.Generator) -> People:
    """Generate a gallery and probes.

    Real embeddings do not fill their space evenly: the spectrum decays so that strangers have a cosine of IMPOSTOR_SIGMA instead of
    1 / sqrt(D). A view is its person's direction mixed with a random one.
    """
    spread = _spread(dimensions)
    subjects = max(references // REFERENCES_PER_SUBJECT, 1)
    people = _unit(rng.standard_normal((subjects, dimensions), dtype=np.float32) * spread)
    owners = rng.permutation(np.concatenate([np.arange(subjects), rng.integers(0, subjects, references - subjects)]))
    strangers = _unit(rng.standard_normal((max(int(probes * STRANGERS_PER_PROBE), 12), dimensions), dtype=np.float32) * spread)
    return People(
        references=_views(people[owners], spread, rng),
        owners=owners,
        probes=_views(people[rng.integers(0, subjects, probes)], spread, rng),
        strangers=_views(strangers, spread, rng),
    )


def _spread(dimensions: int) -> F32:
    """Return the scale of each coordinate: an exponential spectrum with an effective dimension of 1 / sigma^2."""
    effective = min(1.0 / IMPOSTOR_SIGMA**2, dimensions)
    variance = np.exp(-np.arange(dimensions) / (effective / 2.0))
    scale: F32 = np.sqrt(variance / variance.sum()).astype(np.float32)
    return scale


def _views(people: F32, spread: F32, rng: np.random.Generator) -> F32:
    likeness = np.clip(rng.normal(np.sqrt(GENUINE_MEAN), VIEW_SIGMA, len(people)), 0.3, 0.98).astype(np.float32)[:, None]
    other = rng.standard_normal(people.shape, dtype=np.float32) * spread
    other = _unit(other - np.einsum("nd,nd->n", other, people)[:, None] * people)
    return _unit(likeness * people + np.sqrt(1.0 - likeness**2) * other)


def _unit(vectors: F32) -> F32:
    unit: F32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
