"""Proof that a converted model computes what the original computes, on seeded random chips."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.adapters.ort import OrtSession
from core.errors import ModelError
from core.types import F32, U8

PARITY_LIMIT = 1e-5
"""Largest allowed difference of one component between original and converted; float32 rounding gives about 5e-7."""
INT8_COSINE_LIMIT = 0.995
"""Least mean cosine between int8 and float32 embeddings of one chip."""
SEED = 20240519
CHIPS = 8


def random_chips(side_px: int, count: int = CHIPS) -> U8:
    """Return (count, side, side, 3) uint8 noise, the same at every call."""
    return np.random.default_rng(SEED).integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8)


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows of norm 1."""
    rows = np.asarray(vectors, np.float64)
    made: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def largest_difference(name: str, expected: NDArray[Any], actual: NDArray[Any], limit: float = PARITY_LIMIT) -> float:
    """Return the largest difference between two arrays.

    Raises:
        ModelError: it is above the limit, or the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ModelError(f"{name}: the original gives {expected.shape}, the converted model {actual.shape}")
    difference = float(np.abs(np.asarray(expected, np.float64) - actual).max())
    if not difference <= limit:
        raise ModelError(f"{name}: differs from the original by {difference:.1e}, more than {limit:.0e}")
    return difference


def compare_detectors(original: Path, converted: Path) -> float:
    """Run both on noise of the original's fixed shape; return the largest difference of any output. Raises ModelError."""
    reference, candidate = _open(original), _open(converted)
    shape = [n or 1 for n in reference.input_shape]
    pixels = np.random.default_rng(SEED).uniform(0, 255, shape).astype(np.float32)
    pairs = zip(reference.run(pixels), candidate.run(pixels), strict=True)
    return max(largest_difference(converted.name, want, got) for want, got in pairs)


def compare_embedders(original: Path, converted: Path, tensor: F32) -> float:
    """Return the largest difference of normalised embeddings: original one by one, converted as one batch. Raises ModelError."""
    reference, candidate = _open(original), _open(converted)
    want = np.concatenate([reference.run(tensor[i : i + 1])[0] for i in range(len(tensor))])
    return largest_difference(converted.name, unit(want), unit(candidate.run(tensor)[0]))


def compare_with_dlib(weights: Path, converted: Path, chips: U8, tensor: F32) -> float:
    """Return the largest difference between dlib's own descriptors and the converted model's, not normalised. Raises ModelError."""
    describe = dlib_describer(weights)
    want = np.stack([describe(chip) for chip in chips])
    return largest_difference(converted.name, want, _open(converted).run(tensor)[0])


def dlib_describer(weights: Path) -> Callable[[U8], NDArray[np.float64]]:
    """Return dlib's own function from a 150 px RGB chip to a descriptor.

    Raises:
        ModelError: dlib is not installed.
    """
    try:
        import dlib
    except ImportError as err:
        raise ModelError("dlib is not installed, so its model can't be checked against it; install sightline[build]") from err
    network = dlib.face_recognition_model_v1(str(weights))
    return lambda chip: np.array(network.compute_face_descriptor(np.ascontiguousarray(chip)))


def int8_agreement(exact: Path, quantised: Path, tensor: F32) -> tuple[float, float]:
    """Return mean and least cosine between the embeddings of both models, chip by chip.

    Raises:
        ModelError: the mean is below INT8_COSINE_LIMIT.
    """
    cosines = (unit(_open(exact).run(tensor)[0]) * unit(_open(quantised).run(tensor)[0])).sum(1)
    mean, least = float(cosines.mean()), float(cosines.min())
    if not mean >= INT8_COSINE_LIMIT:
        raise ModelError(f"{quantised.name}: mean cosine with float32 is {mean:.4f}, below {INT8_COSINE_LIMIT}")
    return mean, least


def _open(path: Path) -> OrtSession:
    return OrtSession(path, provider="cpu", threads=1)
