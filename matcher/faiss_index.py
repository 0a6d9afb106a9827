"""The fast index: a scan of binary codes by FAISS, then exact cosines of the nearest; batches by int8. The only importer of faiss.

A vector's code holds the sign of each coordinate after centring and a fixed random rotation; the share of differing bits between
two codes estimates the angle between the vectors (Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002).
64 bytes are scanned per reference instead of 2048. Codes are plain rows in our own memory: a reference is added, replaced and
deleted in place, and no index is ever rebuilt.
"""

import faiss
import numpy as np

from core.types import F32, U8, check_array
from matcher.certified import certified_among, certified_search
from matcher.exact import exact_search, top_rows
from matcher.index import I64
from matcher.int8 import Int8Product
from matcher.rows import Rows

EXACT_ROWS = 4096  # up to here every cosine of one probe costs less than 0.4 ms (512 dimensions), so nothing is estimated
BATCH_PROBES = 16  # from here on, int8 products with all rows cost a probe less than binary codes do, and the answer is exact
MIN_CODE_BITS = 512  # shorter vectors get several rotations: 128 bits alone would lose too much
SHORTLIST = 128
"""References whose exact cosine is taken first; docs/matcher.md has the agreement with the oracle and the cost for 64 .. 512."""
WIDE_SHORTLIST = 4096  # taken where the first shortlist may have missed the nearest
SHORTLIST_PER_K = 8
SURE_SIGMAS = 3.0
"""A shortlist is trusted when its last code lies this many standard deviations beyond where a reference as near as the best found
would lie: a better one outside it is then less likely than 1 in 700, and it would have to exist."""
SEED = 5218  # of the rotation; any number would do, but one and the same makes runs repeatable


def faiss_version() -> str:
    """Return the version of FAISS with the instruction sets it was compiled for."""
    return f"{faiss.__version__} ({faiss.get_compile_options().strip()})"


class FaissIndex:
    """A VectorIndex. ``exact`` turns the estimate off: every search then computes every cosine.

    Thread rule: as VectorIndex; FAISS and BLAS run without the GIL.
    """

    def __init__(self, dimensions: int, *, exact: bool = False) -> None:
        self._rows = Rows(dimensions, 0 if exact else _code_bits(dimensions) // 8, int8=not exact)
        self._dimensions = dimensions
        self._exact = exact
        self._coder: _Coder | None = None
        self._product: Int8Product | None = None  # loaded by the first batch or stranger
        self._rescored = 0

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._dimensions

    @property
    def bytes_used(self) -> int:
        """Bytes of vectors, codes, slot tables and the rotation."""
        return self._rows.bytes_used + (self._coder.bytes_used if self._coder else 0)

    @property
    def rescored(self) -> int:
        """Rows scored in float32 after an int8 pass over all rows so far, for all probes together: what the certainty costs."""
        return self._rescored

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, vectors: F32) -> I64:
        """Add rows."""
        check_array("vectors", vectors, (None, self._dimensions), np.float32)
        slots, rows = self._rows.append(vectors)
        if self._coder:
            self._rows.codes[rows] = self._coder.codes(vectors)
        elif not self._exact and len(self._rows) > EXACT_ROWS:
            self._coder = _Coder(centre=self._rows.vectors.mean(axis=0))
            self._rows.codes[:] = self._coder.codes(self._rows.vectors)
        return slots

    def update(self, slots: I64, vectors: F32) -> None:
        """Replace rows. Raises KeyError."""
        check_array("vectors", vectors, (len(slots), self._dimensions), np.float32)
        rows = self._rows.rows(slots)
        self._rows.replace(rows, vectors)
        if self._coder:
            self._rows.codes[rows] = self._coder.codes(vectors)

    def delete(self, slots: I64) -> None:
        """Delete rows. Raises KeyError."""
        self._rows.remove(slots)

    def search(self, probes: F32, k: int) -> tuple[I64, F32]:
        """Search exactly for a batch or in few rows, else through the codes."""
        check_array("probes", probes, (None, self._dimensions), np.float32)
        k = min(k, len(self._rows))
        few = len(self._rows) <= max(EXACT_ROWS, 4 * SHORTLIST_PER_K * k)
        if self._coder is None or few or len(probes) == 0:
            rows, scores = exact_search(self._rows.vectors, probes, k)
        elif len(probes) >= BATCH_PROBES:
            rows, scores = self._search_all(probes, k)
        else:
            found = [self._search_codes(self._coder, probe, k) for probe in probes]
            rows, scores = np.stack([row for row, _ in found]), np.stack([score for _, score in found])
        return self._rows.slots(rows), scores

    def _search_all(self, probes: F32, k: int) -> tuple[I64, F32]:
        """Search exactly: by int8 and a certified bound, by float32 alone where the rows are too much alike."""
        found = certified_search(self._rows, probes, k, self._int8())
        if found is None:
            return exact_search(self._rows.vectors, probes, k)
        rows, scores, rescored = found
        self._rescored += rescored
        return rows, scores

    def _search_codes(self, coder: "_Coder", probe: F32, k: int) -> tuple[I64, F32]:
        """Take a shortlist by codes and its exact cosines; a longer one, at last all rows, while the best is in doubt."""
        code = coder.codes(probe[None])
        for length in (SHORTLIST, WIDE_SHORTLIST):
            length = max(length, SHORTLIST_PER_K * k)
            if 4 * length > len(self._rows):
                break
            rows, last_bits = _nearest_codes(self._rows.codes, code, length)
            best, scores = self._best_of(rows, probe, k)
            if coder.sigmas_beyond(probe, self._rows.vectors[best[0]], last_bits) >= SURE_SIGMAS:
                return best, scores
        all_rows, all_scores = self._search_all(probe[None], k)
        return all_rows[0], all_scores[0]

    def _best_of(self, rows: I64, probe: F32, k: int) -> tuple[I64, F32]:
        if len(rows) >= WIDE_SHORTLIST:
            return certified_among(self._rows, rows, probe, k, self._int8())
        places, scores = top_rows(self._rows.vectors[rows] @ probe, k)
        return rows[places], scores

    def _int8(self) -> Int8Product:
        self._product = self._product or Int8Product.open()
        return self._product


class _Coder:
    """Vectors to binary codes, around the centre that the gallery had when codes were first made.

    The centre matters for models whose embeddings all lean one way (dlib: two strangers have a cosine of .84).
    """

    def __init__(self, *, centre: F32) -> None:
        self._centre = centre
        self._bits = _code_bits(len(centre))
        random = np.random.default_rng(SEED)
        turns = [np.linalg.qr(random.standard_normal((len(centre), len(centre))))[0] for _ in range(-(-self._bits // len(centre)))]
        self._rotation = np.ascontiguousarray(np.concatenate(turns, axis=1)[:, : self._bits], np.float32)

    @property
    def bytes_used(self) -> int:
        return self._rotation.nbytes + self._centre.nbytes

    def codes(self, vectors: F32) -> U8:
        """Return codes (N, bits / 8) uint8 of vectors (N, D)."""
        codes = np.empty((len(vectors), self._bits // 8), np.uint8)
        for first in range(0, len(vectors), EXACT_ROWS):  # in pieces, so that loading a million rows needs no second copy of them
            part = slice(first, first + EXACT_ROWS)
            codes[part] = np.packbits((vectors[part] - self._centre) @ self._rotation > 0, axis=1)
        return codes

    def sigmas_beyond(self, probe: F32, nearest: F32, last_bits: int) -> float:
        """Return how far beyond the expected place of a reference as near as ``nearest`` a shortlist reaches.

        Bits differ independently with probability angle / pi, so their number has a binomial distribution.
        """
        a, b = probe - self._centre, nearest - self._centre
        cosine = float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)
        share = np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi
        sigma = np.sqrt(self._bits * share * (1.0 - share)) + 0.5  # half a bit keeps equal vectors finite
        return float((last_bits - self._bits * share) / sigma)


def _code_bits(dimensions: int) -> int:
    return max(MIN_CODE_BITS, -(-dimensions // 64) * 64)  # whole 64-bit words: FAISS counts those fastest


def _nearest_codes(codes: U8, code: U8, count: int) -> tuple[I64, int]:
    """Return the rows (count,) of the nearest codes and how many bits differ in the last."""
    bits = np.empty((1, count), np.int32)
    rows = np.empty((1, count), np.int64)
    # The scan of 100,000 codes takes 0.4 ms; sharing it costs more than it brings: on busy cores OpenMP's barrier waited 16 ms.
    faiss.omp_set_num_threads(1)  # of the calling thread
    pointers = (faiss.swig_ptr(code), faiss.swig_ptr(codes))
    faiss.hammings_knn_mc(*pointers, 1, len(codes), count, codes.shape[1], faiss.swig_ptr(bits), faiss.swig_ptr(rows))
    return rows[0], int(bits.max())


class FlatBaseline:
    """FAISS's IndexFlatIP, for `sightline bench match` to compare with: as installed, or told to use its BLAS for every batch."""

    def __init__(self, vectors: F32) -> None:
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def search(self, probes: F32, k: int, *, blas: bool = False) -> tuple[I64, F32]:
        """Return rows and scores of the k nearest. Thread rule: nobody else may use FAISS meanwhile, for its BLAS switch is global."""
        installed = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1 if blas else installed
        try:
            scores, rows = self._index.search(probes, k)
        finally:
            faiss.cvar.distance_compute_blas_threshold = installed
        return rows, scores
