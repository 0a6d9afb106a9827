"""Broken files, and cameras that stay silent, freeze and die."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from core.adapters.memory_log import MemoryLog
from core.errors import UnavailableError, UnreadableMediaError
from core.live import LiveTracks
from core.metrics import Metrics
from ingest.camera import CameraWorker
from ingest.capture import CameraConfig, CaptureContext
from ingest.gate import GateSettings
from ingest.opening import SourceOptions
from ingest.probe import probe_source
from ingest.publish import DirectPublisher
from ingest.recordings import FrameSource, open_frames
from ingest.video import read_video
from tests.builders.clips import write_clip
from tests.builders.rtsp import Mood, RtspServer, access_units

QUICK = SourceOptions(open_timeout_s=1.0, read_timeout_s=1.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "a.mp4", frames=40, fps=25, width=192, height=128)


def mutations(data: bytes, count: int) -> list[bytes]:
    """Cut, overwrite, repeat and remove pieces of a file, the same ones each time."""
    rng, made = np.random.default_rng(5), []
    for number in range(count):
        broken = bytearray(data)
        at, size = int(rng.integers(len(data))), int(rng.integers(1, 400))
        if number % 4 == 0:
            del broken[at:]
        elif number % 4 == 1:
            broken[at : at + size] = rng.bytes(size)
        elif number % 4 == 2:
            del broken[at : at + size]
        else:
            for where in rng.integers(0, len(data), 30):
                broken[where] = int(rng.integers(256))
        made.append(bytes(broken))
    return made


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("suffix", [".mp4", ".h264"])
def test_hundreds_of_broken_clips_are_errors_or_fewer_frames(clip: Path, tmp_path: Path, suffix: str) -> None:
    pictures = access_units(clip)
    whole = clip.read_bytes() if suffix == ".mp4" else b"".join(b"\0\0\0\1" + nal for picture in pictures for nal in picture.nals)
    path, errors, images, settled = tmp_path / f"x{suffix}", [], 0, 0
    for number, data in enumerate(mutations(whole, 200)):
        path.write_bytes(data)
        try:
            images += read_all(path)
        except UnreadableMediaError as err:
            errors.append(str(err))
        if number == 60:
            settled = resident_bytes()
    assert all(error.startswith(str(path)) and "\n" not in error for error in errors)
    assert images > 500
    assert resident_bytes() - settled < 60 << 20


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x.h264", "x.avi", "x.mkv", "x.ts"])
def test_garbage_under_any_name_is_one_clear_line(tmp_path: Path, name: str) -> None:
    path, rng = tmp_path / name, np.random.default_rng(1)
    for size in (0, 1, 100, 5000, 60_000):
        path.write_bytes(rng.bytes(size))
        with pytest.raises(UnreadableMediaError, match=name):
            read_all(path)


def read_all(path: Path) -> int:
    with read_video(path) as video:
        return sum(1 for _ in video)


def test_giant_dimensions_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    gif = b"GIF89a" + (65500).to_bytes(2, "little") * 2 + b"\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    gif += b"\x2c\x00\x00\x00\x00" + (65500).to_bytes(2, "little") * 2 + b"\x00\x02\x02\x44\x01\x00\x3b"
    (tmp_path / "bomb.gif").write_bytes(gif)
    before = resident_bytes()
    with pytest.raises(UnreadableMediaError, match=r"bomb\.gif"):
        read_all(tmp_path / "bomb.gif")
    assert resident_bytes() - before < 100 << 20


def test_a_file_that_vanishes_while_it_is_read_is_read_to_its_end(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.mp4"
    path.write_bytes(clip.read_bytes())
    with open_frames(str(path)) as source:
        frames = source.timed()
        next(frames)
        path.unlink()
        assert sum(1 for _ in frames) == 39


def test_a_file_cut_while_it_is_read_ends_early_and_is_counted(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.mp4"
    path.write_bytes(clip.read_bytes() * 1)
    with open_frames(str(path)) as source:
        frames = source.timed()
        next(frames)
        with path.open("r+b") as file:
            file.truncate(3000)
        assert sum(1 for _ in frames) <= 39


def test_a_camera_plays(clip: Path) -> None:
    with RtspServer(access_units(clip), "plays") as server, open_frames(server.url, QUICK) as source:
        frames = source.timed()
        times = [next(frames).pts_s for _ in range(20)]
    assert source.info.live
    assert source.info.width_px == 192
    assert np.diff(np.array(times, float)) == pytest.approx(0.04, abs=0.001)


def test_a_probe_measures_a_live_camera(clip: Path) -> None:
    with RtspServer(access_units(clip), "plays") as server:
        line = probe_source(server.url, QUICK).line()
    assert line["measured_fps"] == pytest.approx(25, rel=0.4)
    assert line["open_s"] < 5
    assert "geheim" not in str(line)


@pytest.mark.parametrize(
    ("mood", "message"),
    [("silent", "no answer within 1 s"), ("refuses", "has no such stream")],
)
def test_a_camera_that_does_not_open_is_given_up_in_time(clip: Path, mood: Mood, message: str) -> None:
    begin_s = time.monotonic()
    with RtspServer(access_units(clip), mood) as server, pytest.raises(UnavailableError, match=message) as caught:
        open_frames(server.url, QUICK)
    assert time.monotonic() - begin_s < 5
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_frozen_camera_is_noticed(clip: Path) -> None:
    with RtspServer(access_units(clip), "freezes", after=30) as server, open_frames(server.url, QUICK) as source:
        frames = source.timed()
        next(frames)
        begin_s = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer within 1 s"):
            drain(frames)
    assert time.monotonic() - begin_s < 6


def drain(frames) -> int:
    return sum(1 for _ in frames)


def test_a_camera_that_dies_ends_its_stream(clip: Path) -> None:
    with RtspServer(access_units(clip), "dies", after=30) as server, open_frames(server.url, QUICK) as source:
        begin_s = time.monotonic()
        assert drain(source.timed()) <= 30
    assert time.monotonic() - begin_s < 6


async def test_a_camera_that_dies_is_read_again_by_the_service(clip: Path) -> None:
    metrics = Metrics()
    with RtspServer(access_units(clip), "dies", after=15) as server:
        config = CameraConfig(name="door", url=server.url, source=QUICK, gate=GateSettings(heartbeat_s=0.1))
        worker = CameraWorker(
            config, CaptureContext(live=LiveTracks(), metrics=metrics), DirectPublisher(MemoryLog(capacity=1000), metrics)
        )
        task = asyncio.create_task(worker.run())
        async with asyncio.timeout(30):
            while server.clients < 3:  # noqa: ASYNC110 - watches another thread
                await asyncio.sleep(0.02)
        status = worker.status()
        task.cancel()
        await asyncio.wait({task})
    assert status.reconnects >= 2
    assert status.published > 0
    assert worker.status().state == "stopped"


async def test_a_fault_of_ours_in_a_cameras_thread_ends_the_service() -> None:
    def broken(url: str, options: SourceOptions) -> FrameSource:
        raise ZeroDivisionError

    metrics = Metrics()
    context = CaptureContext(live=LiveTracks(), metrics=metrics, open_frames=broken)
    with pytest.raises(ZeroDivisionError):
        await CameraWorker(CameraConfig(name="door", url="x"), context, DirectPublisher(MemoryLog(), metrics)).run()
