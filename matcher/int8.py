"""Int8 codes of vectors, their product, and how far it may be from the cosine. Pure but for loading the graph file.

A vector v is rotated (matcher/rotation.py) and kept as s * q + r: levels q (whole numbers), one scale s, and what is lost r, of which
only the length e is kept, with what the rotation's rounding may add.
For a row g and a probe p the inequality of Cauchy and Schwarz then bounds the cosine, whatever the vectors are:
|g.p - s_g s_p (q_g.q_p)| <= e_g |p| + |s_g q_g| e_p. Nothing here is estimated.
"""

import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.adapters.ort import OrtSession, int8_saturates
from core.types import F32, U8
from matcher.rotation import rotate, rotated_length, rotation_error

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]

GRAPH = Path(__file__).parent / "int8_product.onnx"  # made by tests/builders/int8_product.py
ROW_LEVELS = 127
ZERO_LEVEL = 128  # a row's levels are stored without sign, shifted by this: 1 .. 255
BOUNDS = 3  # scale, error, length: what is kept beside a row's levels, float32
PIECE_ROWS = 1024  # quantised at a time: 2 MB of 512 floats stay in a core's L2 cache
SMALLEST = 1e-30  # coordinates below count as zero, for 127 / them would overflow; their length is in the error
UNDERFLOW = np.float32(1e-17)  # at most so long is what is left of D <= 4096 coordinates whose squares float32 takes for zero
EPS = 2.0**-23


def probe_levels(machine: str) -> int:
    """Return how many levels a probe's coordinates get on either side of zero.

    An x86 processor without VNNI adds two products at a time in 16 bits and saturates: with 64 levels, 2 * 255 * 64 = 32640 stays
    below 32767, so that the product is exact there too. (The runtime's exact mode is of no help: it is for constant weights.)
    """
    return 64 if int8_saturates(machine) else 127


def quantise(vectors: F32) -> tuple[U8, F32]:
    """Return the levels of rows (n, D), uint8 (n, rotated_length(D)) around ZERO_LEVEL, and their bounds (n, BOUNDS) float32.

    Bounds: scale s; error e >= |rotated v - s q|; length >= |s q|; both rounded up.
    """
    levels = np.empty((len(vectors), rotated_length(vectors.shape[1])), np.uint8)
    bounds = np.empty((len(vectors), BOUNDS), np.float32)
    for first in range(0, len(vectors), PIECE_ROWS):
        part = slice(first, first + PIECE_ROWS)
        whole, bounds[part] = _quantise(vectors[part], ROW_LEVELS)
        whole += ZERO_LEVEL
        levels[part] = whole
    return levels, bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeCodes:
    """Probes as the product takes them."""

    levels: I8
    """(rotated D, N)."""
    scale: F32
    """(N,), above 0."""
    row_error_factor: F32
    """(N,): by how much a row's error moves the score: the probe's length."""
    row_length_factor: F32
    """(N,): by how much a row's length does: the probe's error, and the rounding of float32, in the oracle's score too."""

    def margin(self, error: F32, length: F32) -> F32:
        """Return how far a score may be from the product, for rows' error and length; all broadcast against (N,)."""
        return error * self.row_error_factor + length * self.row_length_factor


def quantise_probes(probes: F32, levels: int) -> ProbeCodes:
    """Return the codes of probes (N, D) with this many levels on either side of zero."""
    whole, bounds = _quantise(probes, levels)
    scale, error, length = bounds.T
    full = length + error
    return ProbeCodes(
        levels=np.ascontiguousarray(whole.T.astype(np.int8)),
        scale=np.where(scale > 0.0, scale, np.float32(1.0)),
        row_error_factor=full * np.float32(1.0 + 32 * EPS),
        row_length_factor=(error + full * np.float32((probes.shape[1] + 32) * EPS)),
    )


def _quantise(vectors: F32, levels: int) -> tuple[F32, F32]:
    """Return whole numbers -levels .. levels (n, rotated_length(D)) float32 and bounds (n, BOUNDS)."""
    turned = np.float32(rotation_error(vectors.shape[1]))
    vectors = rotate(vectors)
    largest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    scale = np.where(largest > SMALLEST, largest / np.float32(levels), np.float32(0.0))
    inverse = np.divide(1.0, np.where(scale > 0.0, scale, np.inf), dtype=np.float32)
    whole = vectors * inverse[:, None]
    np.rint(whole, out=whole)
    kept = whole * scale[:, None]
    up = np.float32(1.0 + (vectors.shape[1] + 8) * EPS)  # the sum of D squares, each rounded
    length = np.sqrt(np.einsum("nd,nd->n", kept, kept)) * up + UNDERFLOW
    lost = np.subtract(vectors, kept, out=kept)
    error = np.sqrt(np.einsum("nd,nd->n", lost, lost)) * up + UNDERFLOW + length * np.float32(4 * EPS)  # s * q was rounded
    error += (length + error) * turned
    return whole, np.stack([scale, error, length], axis=1)


class Int8Product:
    """Whole-number products of rows and probes through onnxruntime, exact on every processor.

    MLAS uses VNNI or AMX where there is: 0.3 ms per probe with 100,000 x 512 rows and 64 probes where float32 takes 1.4 (MLAS) and
    1.9 (NumPy's OpenBLAS); with one probe alone it has no advantage. Thread rule: as VectorIndex.
    """

    def __init__(self, session: OrtSession, *, levels: int) -> None:
        self._session = session
        self.levels = levels

    @classmethod
    def open(cls) -> "Int8Product":
        """Load the graph file, for one thread. Raises ModelError when the installation lacks it."""
        return cls(OrtSession(GRAPH, provider="cpu", threads=1), levels=probe_levels(platform.machine()))

    def products(self, levels: U8, probes: ProbeCodes) -> I32:
        """Return q_g.q_p (n, N) int32 for the levels of rows (n, rotated D)."""
        products: I32 = self._session.run_named({"rows": levels, "probes": probes.levels})[0]
        return products
