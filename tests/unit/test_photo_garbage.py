"""2,000 hostile files: a picture or one clear line each, never anything else. Ten thousand: tests/fault/test_garbage_inputs.py."""

import numpy as np
import pytest

from core.errors import UnreadableMediaError
from core.photo import decode_photo
from tests.builders.garbage import garbage

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # core.photo silences them; pytest turns them on again


def test_two_thousand_hostile_files() -> None:
    decoded = refused = 0
    for what, data in garbage(seed=7, count=2000):
        try:
            image = decode_photo(data, name="x.jpg")
        except UnreadableMediaError as err:
            text = str(err)
            assert text.startswith("x.jpg: "), what
            assert text.isprintable(), what
            assert len(text) < 320, what
            refused += 1
        else:
            assert image.ndim == 3, what
            assert image.dtype == np.uint8, what
            decoded += 1
    assert decoded + refused == 2000
    assert refused > 1000
