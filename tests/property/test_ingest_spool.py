"""However a spool's file is torn or rots, what is read from it is what was written, in order, and nothing sound is lost before a tear."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.outbox import GatedFrame
from ingest.spool import Spool
from tests.builders.frames import gated

SIZES = st.lists(st.integers(0, 300), min_size=1, max_size=8)


def written(folder: Path, sizes: list[int]) -> tuple[list[GatedFrame], list[int], Path]:
    """Return frames that lie in a spool, the offset where each ends, and the file."""
    spool = Spool(folder, 1 << 30)
    assert spool.open() == []
    frames = [gated(number, size=size) for number, size in enumerate(sizes)]
    ends = [0] * len(frames)
    for number, frame in enumerate(frames):
        spool.append(frame)
        ends[number] = spool.bytes
    spool.close()
    return frames, ends, next(folder.glob("*.spool"))


def recovered(folder: Path) -> list[GatedFrame]:
    spool = Spool(folder, 1 << 30)
    frames = [spool.read(kept) for kept, _ in spool.open() or []]
    spool.close()
    return frames


@settings(deadline=None)
@given(sizes=SIZES, data=st.data())
def test_a_file_cut_anywhere_yields_all_that_was_whole(sizes: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        frames, ends, path = written(Path(folder), sizes)
        size = data.draw(st.integers(0, ends[-1]))
        with path.open("r+b") as file:
            file.truncate(size)
        assert recovered(Path(folder)) == [frame for frame, end in zip(frames, ends, strict=True) if end <= size]


@settings(deadline=None)
@given(sizes=SIZES, data=st.data())
def test_bytes_that_rot_never_become_a_frame_that_was_not_written(sizes: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        frames, ends, path = written(Path(folder), sizes)
        content = bytearray(path.read_bytes())
        places = data.draw(st.lists(st.tuples(st.integers(8, len(content) - 1), st.integers(1, 255)), min_size=1, max_size=3))
        for place, change in places:
            content[place] ^= change
        path.write_bytes(content)
        found = recovered(Path(folder))
        assert [frame for frame in frames if frame in found] == found
        first = min(place for place, _ in places)
        assert found[: sum(end <= first for end in ends)] == [frame for frame, end in zip(frames, ends, strict=True) if end <= first]


@settings(deadline=None)
@given(sizes=SIZES, data=st.data())
def test_what_was_finished_never_comes_back_and_the_rest_does(sizes: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        frames, _, _ = written(Path(folder), sizes)
        spool = Spool(Path(folder), 1 << 30)
        left = spool.open() or []
        done = data.draw(st.sets(st.integers(0, len(frames) - 1)))
        for number in sorted(done):
            spool.finish(left[number][0])
        spool.close()
        assert recovered(Path(folder)) == [frame for number, frame in enumerate(frames) if number not in done]
