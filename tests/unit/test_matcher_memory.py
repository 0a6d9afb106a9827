"""What a load freed goes back to the system."""

import ctypes
import re
import sys
from pathlib import Path

import pytest

from matcher.memory import give_back

PIECES, PIECE_BYTES = 40_000, 1_000  # small enough for the heap, which nothing but a trim gives back from below what is in use


def resident_bytes() -> int:
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc's memory, on Linux")
def test_freed_memory_is_given_back() -> None:
    pieces = [bytes(PIECE_BYTES) for _ in range(PIECES)]
    last = [bytes(PIECE_BYTES)]  # lies above them and stays: without a trim the heap can't shrink
    held = resident_bytes()
    pieces.clear()
    give_back()
    assert held - resident_bytes() > PIECES * PIECE_BYTES // 2
    assert last
