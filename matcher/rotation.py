"""A fixed rotation that evens out coordinates, so that int8 loses half as much of a vector. Pure.

Embeddings lean on some coordinates: the largest of 512 is 7 times their mean size, and 127 levels must reach up to it. After random signs
and a Hadamard transform every coordinate is a sum of all, the largest is 3 times the mean, and rounding loses .007 of a unit vector
instead of .015 (Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform", 2009, use it for the same end). Products of vectors stay.
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np

from core.types import F32

SEED: Final = 5219  # of the signs; any number would do, but one and the same makes runs repeatable
ROUNDING: Final = 2.0**-24


def rotated_length(dimensions: int) -> int:
    """Return the length of rotated vectors: the next power of two."""
    return 1 << (dimensions - 1).bit_length()


def rotate(vectors: F32) -> F32:
    """Return vectors (n, D) rotated, (n, rotated_length(D)); the rest counts as zeros."""
    count, dimensions = vectors.shape
    signs, left, right = _factors(dimensions)
    signed = np.zeros((count, len(left) * len(right)), np.float32)
    np.multiply(vectors, signs, out=signed[:, :dimensions])
    mixed = (signed.reshape(-1, len(right)) @ right).reshape(count, len(left), len(right))
    rotated: F32 = np.matmul(left, mixed).reshape(count, -1)
    return rotated


def rotation_error(dimensions: int) -> float:
    """Return by how much of its length a rotated vector is off at most, for float32 rounds.

    A sum of m products of x with entries of size 1 / sqrt(m), themselves rounded, is off by at most (m + 2) u |x|, whatever the order
    (Higham, "Accuracy and stability of numerical algorithms", 3.1); m such sums are off by sqrt(m) times that. Doubled for what
    is small of second order.
    """
    _, left, right = _factors(dimensions)
    return 2.0 * ROUNDING * sum(math.sqrt(len(one)) * (len(one) + 2) for one in (left, right))


@lru_cache(16)
def _factors(dimensions: int) -> tuple[F32, F32, F32]:
    """Return signs (D,) and the two Hadamard matrices whose Kronecker product is the transform: 48 products a coordinate, not 512."""
    bits = (dimensions - 1).bit_length()
    signs = np.random.default_rng(SEED).choice(np.array([-1.0, 1.0], np.float32), dimensions)
    return signs, _hadamard(bits // 2), _hadamard(bits - bits // 2)


def _hadamard(bits: int) -> F32:
    matrix = np.ones((1, 1))
    for _ in range(bits):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    scaled: F32 = (matrix / math.sqrt(len(matrix))).astype(np.float32)
    return scaled
