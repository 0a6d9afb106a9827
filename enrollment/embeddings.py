"""Files of precomputed embeddings: NumPy's .npz, or a CSV. Read whole, within limits; nothing in them is executed."""

import base64
import binascii
import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import UnreadableMediaError, UsageError
from core.types import F32
from enrollment.bulk import MAX_DIMENSIONS, Precomputed
from enrollment.imports import MAX_CSV_BYTES, parse_attributes

MAX_ROWS: Final = 1_000_000
MAX_NPZ_BYTES: Final = 4 << 30  # unpacked: a million of 512 floats, with names
NPZ_START: Final = b"PK\x03\x04"
CSV_COLUMNS: Final = ("subject", "embedding")
_NPZ_ERRORS = (zipfile.BadZipFile, ValueError, KeyError, OSError, EOFError, RuntimeError, NotImplementedError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFile:
    """Embeddings with the names of their subjects."""

    subjects: Sequence[str]
    sources: Sequence[str]
    attributes: Sequence[str]
    """As in a CSV of photos: JSON or key=value;key=value."""
    vectors: Sequence[F32 | str]
    """Each (D,); a text where it could not be read: why."""
    model: str | None
    """As the file says; None = it does not."""

    def __len__(self) -> int:
        return len(self.subjects)

    def row(self, number: int) -> Precomputed:
        """Return one reference.

        Raises:
            UsageError: its cells can't be read; in one line.
        """
        vector = self.vectors[number]
        if isinstance(vector, str):
            raise UsageError(vector)
        attributes = parse_attributes(self.attributes[number]) if self.attributes else {}
        source = self.sources[number] if self.sources else f"row {number + 1}"
        return Precomputed(source=source, subject=self.subjects[number], vector=np.asarray(vector, np.float32), attributes=attributes)


def read_embeddings(path: Path, name: str) -> EmbeddingFile:
    """Read a file; its content decides which of the two it is.

    Args:
        path: the file.
        name: what to call it in an error.

    Raises:
        UnreadableMediaError: it is damaged or too large. UsageError: arrays or columns are missing or do not fit each other.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as err:
        raise UnreadableMediaError(f"{name}: can't be read: {err.strerror}") from err
    return _read_npz(path, name) if start == NPZ_START else _read_csv(path, name)


def _read_npz(path: Path, name: str) -> EmbeddingFile:
    try:
        with zipfile.ZipFile(path) as members:
            total = sum(info.file_size for info in members.infolist())
        if total > MAX_NPZ_BYTES:
            raise UnreadableMediaError(f"{name}: would unpack to {total >> 20} MB, at most {MAX_NPZ_BYTES >> 20} are read; split it")
        with np.load(path, allow_pickle=False) as arrays:
            return _of_arrays(
                {key: arrays[key] for key in ("embeddings", "subjects", "sources", "attributes", "model") if key in arrays}, name
            )
    except _NPZ_ERRORS as err:
        raise UnreadableMediaError(f"{name}: can't be read as .npz ({str(err).splitlines()[0][:120] if str(err) else 'damaged'})") from err


def _of_arrays(arrays: dict[str, NDArray[Any]], name: str) -> EmbeddingFile:
    if "embeddings" not in arrays or "subjects" not in arrays:
        raise UsageError(f"{name}: needs the arrays embeddings (N, D) and subjects (N,), of texts")
    vectors, subjects = arrays["embeddings"], arrays["subjects"]
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not 1 <= vectors.shape[1] <= MAX_DIMENSIONS:
        raise UsageError(f"{name}: embeddings must be floats (N, D) with D up to {MAX_DIMENSIONS}, not {vectors.dtype} {vectors.shape}")
    texts = {key: arrays[key] for key in ("subjects", "sources", "attributes") if key in arrays}
    for key, array in texts.items():
        if array.dtype.kind != "U" or array.shape != (len(vectors),):
            raise UsageError(f"{name}: {key} must be {len(vectors)} texts, not {array.dtype} {array.shape}")
    _check_rows(len(vectors), name)
    model = arrays.get("model")
    return EmbeddingFile(
        subjects=subjects.tolist(),
        sources=texts["sources"].tolist() if "sources" in texts else (),
        attributes=texts["attributes"].tolist() if "attributes" in texts else (),
        vectors=vectors,  # type: ignore[arg-type]  # rows of an array are a sequence of arrays
        model=str(model) if model is not None and model.ndim == 0 and model.dtype.kind == "U" else None,
    )


def _read_csv(path: Path, name: str) -> EmbeddingFile:
    if path.stat().st_size > MAX_CSV_BYTES:
        raise UnreadableMediaError(f"{name}: larger than {MAX_CSV_BYTES >> 20} MB; use .npz, or split it")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as err:
        raise UnreadableMediaError(f"{name}: is neither .npz nor UTF-8 text (byte {err.start}); save it as CSV UTF-8") from err
    head = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), restkey="", restval="")
    try:
        columns = [str(column).strip().lower() for column in reader.fieldnames or ()]
        if missing := [column for column in CSV_COLUMNS if column not in columns]:
            raise UsageError(f"{name}: has no column '{missing[0]}'; its first line must name subject and embedding")
        reader.fieldnames = columns
        rows = [{key: value for key, value in row.items() if isinstance(value, str)} for row in reader]
    except csv.Error as err:
        raise UnreadableMediaError(f"{name}: line {reader.line_num}: {err}; save it as CSV anew") from err
    _check_rows(len(rows), name)
    models = {row.get("model", "") for row in rows} - {""}
    return EmbeddingFile(
        subjects=[row.get("subject", "").strip() for row in rows],
        sources=[row.get("file", "").strip() or f"row {number}" for number, row in enumerate(rows, 1)],
        attributes=[row.get("attributes", "") for row in rows],
        vectors=[_vector(row.get("embedding", "")) for row in rows],
        model=models.pop() if len(models) == 1 else None,
    )


def _check_rows(count: int, name: str) -> None:
    if count > MAX_ROWS:
        raise UnreadableMediaError(f"{name}: has {count} rows, at most {MAX_ROWS} are read; split it")


def _vector(cell: str) -> F32 | str:
    """Read ``[0.1, ...]`` or base64 of little-endian float32; return why not as a text."""
    cell = cell.strip()
    try:
        if cell.startswith("["):
            return np.asarray(msgspec.json.decode(cell, type=list[float]), np.float32)
        data = base64.b64decode(cell, validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError, OverflowError):
        return "embedding: is neither a JSON list of numbers nor base64 of float32"
    return np.frombuffer(data, "<f4").astype(np.float32) if data and len(data) % 4 == 0 else "embedding: is not base64 of float32"
