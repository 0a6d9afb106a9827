"""The fast index: a scan of binary codes by FAISS, then exact cosines of the nearest; batches by int8. The only importer of faiss.

A vector's code holds the sign of each coordinate after centring and a fixed random rotation; the share of differing bits between
two codes estimates the angle between the vectors (Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002).
64 bytes are scanned per reference instead of 2048. Codes are plain rows in our own memory: a reference is added, replaced and
deleted in place, and no index is ever rebuilt.
"""

import math
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from core.types import F32, U8, check_array
from matcher.certified import certified_among, certified_search
from matcher.exact import exact_search, top_rows
from matcher.index import I64
from matcher.int8 import I32, Int8Product
from matcher.rows import Rows, Storage

EXACT_ROWS = 4096  # up to here every cosine of one probe costs less than 0.4 ms (512 dimensions), so nothing is estimated
BATCH_PROBES = 16  # from here on, int8 products with all rows cost a probe less than binary codes do, and the answer is exact
MIN_CODE_BITS = 512  # shorter vectors get several rotations: 128 bits alone would lose too much
SHORTLIST = 128
"""References whose exact cosine is taken first; docs/matcher.md has the agreement with the oracle and the cost for 64 .. 512."""
SHORTLIST_PER_K = 8
MOST_SHARE = 1 / 8  # of all rows in a second shortlist; with more, looking at all of them costs no more
INT8_ROWS = 512  # from here on a shortlist goes through int8 first, which reads a quarter of the memory
SAMPLE = 4096  # distances that tell about where a shortlist ends, so that 100,000 of them need no sorting
SAMPLE_SIGMAS = 1.5  # taken beyond, so that the guess is seldom too short
SURE_SIGMAS = 3.0
"""A shortlist is trusted when it reaches this many standard deviations beyond where the code of a reference as near as the best found
would lie: a better one outside it is then less likely than 1 in 700, and it would have to exist."""
SEED = 5218  # of the rotation; any number would do, but one and the same makes runs repeatable


def faiss_version() -> str:
    """Return the version of FAISS with the instruction sets it was compiled for."""
    return f"{faiss.__version__} ({faiss.get_compile_options().strip()})"


class FaissIndex:
    """A VectorIndex. Thread rule: as VectorIndex; FAISS and BLAS run without the GIL."""

    def __init__(self, dimensions: int, *, exact: bool = False, storage: Storage = "fp32", directory: Path | None = None) -> None:
        """Make an empty index.

        Args:
            dimensions: length of a vector.
            exact: no estimates: every search computes every cosine.
            storage: of the exact vectors; scores are theirs, so those of ``fp16`` differ by up to .0005 from the float32 ones.
            directory: where storage ``int8`` keeps its file; None = the system's folder for temporary files.
        """
        code_bytes = 0 if exact else _code_bits(dimensions) // 8
        self._rows = Rows(dimensions, code_bytes, int8=not exact, storage=storage, directory=directory)
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
        """Bytes in memory of vectors, codes, slot tables and the rotation."""
        return self._rows.bytes_used + (self._coder.bytes_used if self._coder else 0)

    @property
    def file_bytes(self) -> int:
        """Bytes of vectors in a file, which the system caches as far as it has memory to spare."""
        return self._rows.file_bytes

    @property
    def rescored(self) -> int:
        """Rows scored in float32 after an int8 pass over all rows so far, for all probes together: what the certainty costs."""
        return self._rescored

    def __len__(self) -> int:
        return len(self._rows)

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all. Raises UnavailableError."""
        self._rows.reserve(rows)

    def add(self, vectors: F32) -> I64:
        """Add rows. Raises UnavailableError."""
        check_array("vectors", vectors, (None, self._dimensions), np.float32)
        slots, rows = self._rows.append(vectors)
        if self._coder:
            self._rows.set_codes(rows, self._coder.codes(vectors))
        elif not self._exact and len(self._rows) > EXACT_ROWS:
            self._coder = _Coder(centre=self._rows.vectors.mean(axis=0, dtype=np.float32))
            self._rows.set_codes(slice(0, len(self._rows)), self._coder.codes(self._rows.vectors))
        return slots

    def update(self, slots: I64, vectors: F32) -> None:
        """Replace rows. Raises KeyError."""
        check_array("vectors", vectors, (len(slots), self._dimensions), np.float32)
        rows = self._rows.rows(slots)
        self._rows.replace(rows, vectors)
        if self._coder:
            self._rows.set_codes(rows, self._coder.codes(vectors))

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
            rows, scores = self._search_each(self._coder, probes, k)
        return self._rows.slots(rows), scores

    def _search_all(self, probes: F32, k: int) -> tuple[I64, F32]:
        """Search exactly: by int8 and a certified bound, by float32 alone where the rows are too much alike."""
        found = certified_search(self._rows, probes, k, self._int8())
        if found is None:
            return exact_search(self._rows.vectors, probes, k)
        rows, scores, rescored = found
        self._rescored += rescored
        return rows, scores

    def _search_each(self, coder: "_Coder", probes: F32, k: int) -> tuple[I64, F32]:
        """Search by codes; those whom they don't tell apart (faces like nobody's) share one look at all rows."""
        rows, scores = np.empty((len(probes), k), np.int64), np.empty((len(probes), k), np.float32)
        unsure = []
        for place, probe in enumerate(probes):
            found = self._search_codes(coder, probe, k)
            if found is None:
                unsure.append(place)
            else:
                rows[place], scores[place] = found
        if unsure:
            rows[unsure], scores[unsure] = self._search_all(probes[unsure], k)
        return rows, scores

    def _search_codes(self, coder: "_Coder", probe: F32, k: int) -> tuple[I64, F32] | None:
        """Take the nearest by codes and their exact cosines; then all whose codes are near enough that they might be better.

        None when these are too many.
        """
        distances = _code_distances(self._rows.codes, coder.codes(probe[None]))
        rows, bits = _nearest(distances, max(SHORTLIST, SHORTLIST_PER_K * k))
        most = int(MOST_SHARE * len(self._rows))
        if len(rows) <= max(most, INT8_ROWS):  # more are equally far: the rows are much alike
            best, scores = self._best_of(rows, probe, k)
            sure_bits = coder.sure_bits(probe, self._rows.exact(best[:1])[0])
            if sure_bits <= bits:
                return best, scores
            rows = np.flatnonzero(distances <= sure_bits)
            if len(rows) <= most:
                return self._best_of(rows, probe, k)
        return None

    def _best_of(self, rows: I64, probe: F32, k: int) -> tuple[I64, F32]:
        if len(rows) >= INT8_ROWS:
            return certified_among(self._rows, rows, probe, k, self._int8())
        places, scores = top_rows(self._rows.exact(rows) @ probe, k)
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

    def codes(self, vectors: NDArray[np.float32 | np.float16]) -> U8:
        """Return codes (N, bits / 8) uint8 of vectors (N, D)."""
        codes = np.empty((len(vectors), self._bits // 8), np.uint8)
        for first in range(0, len(vectors), EXACT_ROWS):  # in pieces, so that loading a million rows needs no second copy of them
            part = slice(first, first + EXACT_ROWS)
            codes[part] = np.packbits((vectors[part] - self._centre) @ self._rotation > 0, axis=1)
        return codes

    def sure_bits(self, probe: F32, nearest: F32) -> int:
        """Return how many bits of a code may differ at most if the reference is to be nearer to the probe than ``nearest``.

        Bits differ independently with probability angle / pi, so their number has a binomial distribution.
        """
        a, b = probe - self._centre, nearest - self._centre
        cosine = float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)
        share = math.acos(min(max(cosine, -1.0), 1.0)) / math.pi if math.isfinite(cosine) else 1.0
        sigma = math.sqrt(self._bits * share * (1.0 - share)) + 0.5  # half a bit keeps equal vectors finite
        return math.ceil(self._bits * share + SURE_SIGMAS * sigma)


def _code_bits(dimensions: int) -> int:
    return max(MIN_CODE_BITS, -(-dimensions // 64) * 64)  # whole 64-bit words: FAISS counts those fastest


def _code_distances(codes: U8, code: U8) -> I32:
    """Return how many bits of each code (n, C) differ from one (1, C)."""
    distances = np.empty(len(codes), np.int32)
    # The scan of 100,000 codes takes 0.3 ms; sharing it costs more than it brings: on busy cores OpenMP's barrier waited 16 ms.
    faiss.omp_set_num_threads(1)  # of the calling thread
    faiss.hammings(faiss.swig_ptr(code), faiss.swig_ptr(codes), 1, len(codes), codes.shape[1], faiss.swig_ptr(distances))  # type: ignore[attr-defined]
    return distances


def _nearest(distances: I32, count: int) -> tuple[I64, int]:
    """Return all rows within some distance, at least ``count`` of them and seldom more than three times as many, and that distance."""
    sample = distances[:: max(1, len(distances) // SAMPLE)]
    expected = count * len(sample) / len(distances)
    place = min(math.ceil(expected + SAMPLE_SIGMAS * math.sqrt(expected)), len(sample) - 1)
    limit = int(np.partition(sample, place)[place])
    rows = np.flatnonzero(distances <= limit)
    if len(rows) < count:
        limit = int(np.partition(distances, count - 1)[count - 1])
        rows = np.flatnonzero(distances <= limit)
    return rows, limit


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
