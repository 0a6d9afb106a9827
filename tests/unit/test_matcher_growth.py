"""Rows that come in pieces, beyond what any table rounds up to."""

import numpy as np
import pytest

from matcher.rows import Rows, Storage


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_rows_grow_piece_by_piece(storage: Storage) -> None:
    rows = Rows(16, 2, int8=True, storage=storage)
    vectors = np.random.default_rng(0).standard_normal((70_000, 16)).astype(np.float32)
    pieces = [rows.append(piece)[0] for piece in np.array_split(vectors, 50)]
    assert len(rows) == 70_000
    places = rows.rows(np.concatenate(pieces))
    np.testing.assert_allclose(rows.exact(places), vectors, atol=2e-3)
