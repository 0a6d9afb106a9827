"""The spool's files: what was written comes back, whole or not at all."""

import os
import resource
import stat
from pathlib import Path

import pytest

from core.errors import MessageError, SettingsError
from ingest.outbox import GatedFrame
from ingest.spool import MAGIC, RECORD, SEGMENT_BYTES, Spool, SpoolFullError, orphans, own_slot
from tests.builders.frames import gated

PLENTY = 1 << 30


def opened(folder: Path, capacity: int = PLENTY) -> tuple[Spool, list[int]]:
    spool = Spool(folder, capacity)
    left = spool.open()
    assert left is not None
    return spool, [int(header.frame_id.rpartition("/")[2]) for _, header in left]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_what_was_written_comes_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spool, left = opened(tmp_path)
    assert left == []
    for number in range(5):
        spool.append(gated(number))
    spool.close()
    again = Spool(tmp_path, PLENTY)
    kept = again.open() or []
    assert [again.read(item) for item, _ in kept] == [gated(number) for number in range(5)]
    assert (again.frames, again.bytes) == (5, segments(tmp_path)[0].stat().st_size)


def test_what_is_finished_does_not_come_back_and_files_go_with_their_last_frame(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    kept = [spool.append(gated(number)) for number in range(4)]
    for item in (kept[0], kept[2]):
        spool.finish(item)
    spool.close()
    again, left = opened(tmp_path)
    assert left == [1, 3]
    again.close()
    last = Spool(tmp_path, PLENTY)
    for item, _ in last.open() or []:
        last.finish(item)
    assert (segments(tmp_path), last.frames, last.bytes) == ([], 0, 0)


def test_a_file_goes_while_it_is_written_when_all_in_it_is_finished(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    spool.finish(spool.append(gated(1)))
    assert segments(tmp_path) == []
    spool.append(gated(2))
    spool.close()
    assert opened(tmp_path)[1] == [2]


def test_long_spools_are_cut_into_segments(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    kept = [spool.append(gated(number, size=SEGMENT_BYTES // 2)) for number in range(5)]
    assert len(segments(tmp_path)) == 3
    spool.finish(kept[0])
    spool.finish(kept[1])
    assert len(segments(tmp_path)) == 2
    spool.close()
    assert opened(tmp_path)[1] == [2, 3, 4]


@pytest.mark.parametrize("cut", [1, 50, 99, 100 + RECORD.size])
def test_a_torn_tail_is_cut_at_the_last_good_record(tmp_path: Path, cut: int) -> None:
    spool, _ = opened(tmp_path)
    for number in range(3):
        spool.append(gated(number))
    spool.close()
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    again, left = opened(tmp_path)
    assert left == [0, 1]
    assert again.damaged == 1
    again.close()
    assert opened(tmp_path)[0].damaged == 0


@pytest.mark.parametrize("junk", [b"\0" * 5000, b"\xff" * 7, os.urandom(3000)])
def test_junk_after_the_last_record_is_cut(tmp_path: Path, junk: bytes) -> None:
    spool, _ = opened(tmp_path)
    spool.append(gated(0))
    spool.close()
    (path,) = segments(tmp_path)
    path.write_bytes(path.read_bytes() + junk)
    assert opened(tmp_path)[1] == [0]


def test_a_rotten_record_costs_itself_only(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    kept = [spool.append(gated(number)) for number in range(3)]
    spool.close()
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    data[kept[1].offset + RECORD.size + 150] ^= 1
    path.write_bytes(data)
    again, left = opened(tmp_path)
    assert (left, again.damaged) == ([0, 2], 1)
    with pytest.raises(MessageError, match="the checksum is wrong"):
        spool.read(kept[1])


@pytest.mark.parametrize("content", [b"", b"SLSP", MAGIC, b"something else altogether"])
def test_a_segment_without_records_goes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "00000007.spool").write_bytes(content)
    spool, left = opened(tmp_path)
    assert (left, segments(tmp_path)) == ([], [])
    spool.append(gated(1))
    assert segments(tmp_path)[0].name == "00000008.spool"


def test_the_bound_holds_and_room_comes_back(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path, 1000)
    kept = [spool.append(gated(0)), spool.append(gated(1))]
    kept.append(spool.append(gated(2)))
    with pytest.raises(SpoolFullError, match=r"of 1000 bytes \(ingest.spool_bytes\)"):
        spool.append(gated(3, size=400))
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 1000
    for item in kept:
        spool.finish(item)
    spool.append(gated(9))


def test_a_full_disk_is_a_full_spool_and_nothing_half_stays(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    first = spool.append(gated(0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (first.segment.size + 50, before[1]))  # writes beyond fail after 50 bytes, as on a full disk
    try:
        with pytest.raises(SpoolFullError, match="File too large"):
            spool.append(gated(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert spool.bytes == first.segment.size
    spool.append(gated(2))
    spool.close()
    again, left = opened(tmp_path)
    assert (left, again.damaged) == ([0, 2], 0)


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool, _ = opened(folder)
    spool.append(gated(0))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_has_one_owner_and_others_get_the_next(tmp_path: Path) -> None:
    first, _ = own_slot(tmp_path, PLENTY)
    second, _ = own_slot(tmp_path, PLENTY)
    assert (first.folder.name, second.folder.name) == ("0", "1")
    first.append(gated(7))
    first.close()
    third, left = own_slot(tmp_path, PLENTY)
    assert (third.folder.name, len(left)) == ("0", 1)


def test_spools_of_the_dead_are_found_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    own, _ = own_slot(tmp_path, PLENTY)
    dead, _ = own_slot(tmp_path, PLENTY)
    alive, _ = own_slot(tmp_path, PLENTY)
    dead.append(gated(1))
    alive.append(gated(2))
    dead.close()
    ((spool, left),) = orphans(tmp_path, own)
    assert (spool.folder, [header.frame_id for _, header in left]) == (dead.folder, ["door/s/1"])
    assert orphans(tmp_path, own) == []


def test_a_folder_that_can_not_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SettingsError, match="the spool can't be opened"):
        own_slot(tmp_path / "spool", PLENTY)


def test_frames_of_every_size_come_back(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    frames: list[GatedFrame] = [gated(number, size=size) for number, size in enumerate((0, 1, 70_000, 3_000_000))]
    assert [spool.read(spool.append(frame)) for frame in frames] == frames
