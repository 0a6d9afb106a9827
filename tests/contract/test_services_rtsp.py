"""Simulated cameras, seen through the platform's own source."""

import time

import numpy as np
import pytest

from cli.services.annexb import Clip, read_clip
from cli.services.rtsp import RtspServer
from core.errors import UnavailableError
from ingest.opening import SourceOptions
from ingest.source import ClipWriter, open_source

FPS = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A second of pictures that grow brighter from black; a key frame every quarter."""
    path = tmp_path_factory.mktemp("clip") / "grey.h264"
    with ClipWriter(path, fps=FPS, gop=5) as writer:
        for number in range(FPS):
            writer.write(np.full((64, 96, 3), number * 10, np.uint8))
    return read_clip(path.read_bytes(), fps=FPS, name=str(path))


def look(url: str, count: int) -> list[float]:
    """Return the brightness of the next pictures."""
    with open_source(url, SourceOptions()) as source:
        assert (source.info.width_px, source.info.height_px) == (96, 64)
        return [float(frame.luma().mean()) for frame, _ in zip(source.frames(), range(count), strict=False)]


def test_rtsp_bare_stream_begins_with_a_key_frame_and_has_no_reordered_pictures(clip: Clip) -> None:
    assert len(clip.pictures) == FPS
    assert [number for number, picture in enumerate(clip.pictures) if picture.key] == [0, 5, 10, 15]


def test_rtsp_waits_then_plays_once_then_stands_still(clip: Clip) -> None:
    with RtspServer({"a": clip}) as server, open_source(server.url("a"), SourceOptions()) as source:
        frames = source.frames()
        before = [float(next(frames).luma().mean()) for _ in range(4)]
        began_s = server.play()
        assert abs(began_s - time.time()) < 5.0
        after = [float(next(frames).luma().mean()) for _ in range(2 * FPS)]
    assert max(before) < 20
    assert max(after) > 170
    assert max(after[-5:]) < 20


def test_rtsp_who_comes_later_sees_the_scene_where_it_is(clip: Clip) -> None:
    with RtspServer({"a": clip}, loop=True) as server:
        first = look(server.url("a"), FPS)
        second = look(server.url("a"), FPS)
    assert max(first) > 150
    assert max(second) > 150


def test_rtsp_serves_several_cameras_and_clients(clip: Clip) -> None:
    with RtspServer({"a": clip, "b": clip}) as server:
        sources = [open_source(server.url(camera), SourceOptions()) for camera in ("a", "a", "b")]
        try:
            for source in sources:
                next(source.frames())
            assert server.clients == {"a": 2, "b": 1}
        finally:
            for source in sources:
                source.close()
        deadline = time.monotonic() + 5
        while any(server.clients.values()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.clients == {"a": 0, "b": 0}


def test_rtsp_unknown_camera_is_refused(clip: Clip) -> None:
    with RtspServer({"a": clip}) as server, pytest.raises(UnavailableError, match="has no such stream"):
        open_source(server.url("b"), SourceOptions())
