"""Real video files through FFmpeg: colours, formats, rotation, folders, recorded video, and the writer."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from core.errors import NotFoundError, UnreadableMediaError
from ingest.opening import SourceOptions
from ingest.recordings import open_frames
from ingest.source import ClipWriter, DecodedFrame, ffmpeg_version, open_source
from ingest.video import read_video
from tests.builders.clips import coloured, write_clip

PATCHES = [(224, 172, 138), (200, 40, 40), (40, 180, 60), (50, 60, 190), (240, 240, 240), (20, 20, 20)]


def patches(width: int = 192, height: int = 128) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate(PATCHES):
        image[:, number * width // 6 : (number + 1) * width // 6] = colour
    return image


def centres(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return image[height // 2, [number * width // 6 + width // 12 for number in range(6)]].astype(int)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "a.mp4")


def test_a_clip_is_read_whole_with_its_times(clip: Path) -> None:
    with open_source(str(clip)) as source:
        times = [frame.pts_s for frame in source.frames()]
    assert times == pytest.approx([number / 10 for number in range(20)])
    assert (source.info.width_px, source.info.height_px, source.info.fps, source.info.codec) == (96, 64, 10.0, "h264")
    assert source.info.duration_s == pytest.approx(2.0)
    assert not source.info.live
    assert (source.counts.frames, source.counts.errors) == (20, 0)


def test_planes_are_views_of_the_decoders_memory(clip: Path) -> None:
    with open_source(str(clip)) as source:
        planes = next(source.frames()).planes()
    assert not planes.y.flags.owndata
    assert planes.y.shape == (64, 96)
    assert planes.y.strides[0] >= 96


@pytest.mark.parametrize(("width", "height"), [(192, 128), (1280, 720)])
def test_written_colours_come_back(tmp_path: Path, width: int, height: int) -> None:
    """1280x720 is tagged BT.709, the small one BT.601: both must come back as they went in."""
    image = patches(width, height)
    with ClipWriter(tmp_path / "c.mp4", fps=5, crf=10) as writer:
        writer.write(image)
    with open_source(str(tmp_path / "c.mp4")) as source:
        frame = next(source.frames())
        assert frame.planes().matrix == ("bt709" if width == 1280 else "bt601")
        assert np.abs(centres(frame.rgb()) - centres(image)).max() <= 5


@pytest.mark.parametrize(
    ("pixel_format", "full_range"),
    [
        ("yuv420p", False),
        ("yuvj420p", True),
        ("nv12", False),
        ("yuv422p", False),
        ("yuv444p", False),
        ("yuv420p10le", False),
        ("bgra", True),
    ],
)
def test_every_pixel_format_gives_right_planes_and_rgb(pixel_format: str, full_range: bool) -> None:
    image = patches()
    options = {} if pixel_format == "bgra" else {"dst_colorspace": "ITU601", "dst_color_range": "JPEG" if full_range else "MPEG"}
    frame = DecodedFrame(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format, **options))
    assert np.abs(centres(frame.rgb()) - centres(image)).max() <= 5
    planes = frame.planes()
    luma = centres(np.repeat(planes.y[..., None], 3, axis=-1))[:, 0]
    wanted = np.array(PATCHES) @ [0.299, 0.587, 0.114]
    got = luma if planes.full_range else (luma - 16) * 255 / 219
    assert np.abs(got - wanted).max() <= 4


def test_gray_video_has_neutral_chroma() -> None:
    gray = np.full((64, 96), 120, np.uint8)
    planes = DecodedFrame(av.VideoFrame.from_ndarray(gray, format="gray")).planes()
    assert planes.u.min() == planes.u.max() == 128
    assert abs(int(planes.y[10, 10]) - 120) <= 1


@pytest.mark.parametrize(("height", "matrix"), [(480, "bt601"), (576, "bt601"), (720, "bt709"), (1080, "bt709")])
def test_untagged_video_is_judged_by_its_size(height: int, matrix: str) -> None:
    frame = av.VideoFrame(height * 4 // 3 if height < 700 else height * 16 // 9, height, "yuv420p")
    assert DecodedFrame(frame).planes().matrix == matrix


def rotated_clip(path: Path, degrees: float) -> Path:
    """A clip whose left half is red and right half blue, with a rotation in its metadata as phones write it."""
    image = coloured((220, 20, 20), width=96, height=64)
    image[:, 48:] = (20, 20, 220)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(5))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(degrees)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")), *stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_in_the_metadata_is_honoured(tmp_path: Path, degrees: int) -> None:
    with open_source(str(rotated_clip(tmp_path / "r.mp4", degrees))) as source:
        frame = next(source.frames())
        image, planes = frame.rgb(), frame.planes()
    assert image.shape == ((96, 64, 3) if abs(degrees) == 90 else (64, 96, 3))
    assert planes.y.shape == image.shape[:2] == (frame.height_px, frame.width_px)
    first, last = (image[5, 30], image[-5, 30]) if abs(degrees) == 90 else (image[30, 5], image[30, -5])
    assert frame._rotation * 90 == degrees % 360
    blue_first = degrees in (90, 180)
    assert (first[2] > 150) == blue_first
    assert (last[0] > 150) == blue_first


def test_a_folder_plays_its_clips_in_order_as_one(tmp_path: Path) -> None:
    write_clip(tmp_path / "1.mp4", frames=10)
    write_clip(tmp_path / "3.mp4", frames=10)
    (tmp_path / "2.mp4").write_bytes(b"not a video" * 100)
    with open_frames(str(tmp_path)) as source:
        times = [timed.pts_s for timed in source.timed()]
    assert times == pytest.approx([number / 10 for number in range(20)])
    assert source.counts.errors == 1


@pytest.mark.parametrize(("name", "content"), [("empty", None), ("bad", b"x")])
def test_a_folder_without_a_readable_clip_says_so(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises((NotFoundError, UnreadableMediaError), match=r"no video in this folder|none of its clips can be read"):
        open_frames(str(tmp_path))


def test_skipping_the_loop_filter_still_decodes(clip: Path) -> None:
    with open_source(str(clip), SourceOptions(skip_loop_filter=True)) as source:
        assert len(list(source.frames())) == 20


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "not a video, or damaged"),
        (lambda path: path.write_bytes(b"\x00" * 5000), "not a video, or damaged"),
        (lambda path: path.write_bytes(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n"), "not a video, or damaged"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_what_is_no_video_is_one_clear_line(tmp_path: Path, make, message: str) -> None:
    path = tmp_path / "x.mp4"
    make(path)
    with pytest.raises((NotFoundError, UnreadableMediaError), match=message) as caught:
        read_video(path)
    assert "\n" not in str(caught.value)


def test_recorded_video_is_sampled_from_its_first_frame(clip: Path) -> None:
    with read_video(clip, every_s=0.5) as video:
        times = [t_s for t_s, _ in video]
    assert times == pytest.approx([0.0, 0.5, 1.0, 1.5])


def test_recorded_video_gives_every_frame_in_rgb(clip: Path) -> None:
    with read_video(clip) as video:
        frames = list(video)
    assert len(frames) == 20
    assert frames[0][1].shape == (64, 96, 3)
    assert frames[0][1][5, 90, 0] > 180 > 60 > frames[0][1][5, 90, 1]


def test_a_reader_may_stop_early(clip: Path) -> None:
    with read_video(clip) as video:
        assert next(iter(video))[0] == 0.0


def test_an_animated_gif_is_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.gif"), "w") as container:
        stream = container.add_stream("gif", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb8"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(coloured((40 * number, 0, 0)), format="rgb24").reformat(format="rgb8")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with read_video(tmp_path / "a.gif") as video:
        frames = list(video)
    assert [t_s for t_s, _ in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=0.011)
    assert frames[4][1][30, 30, 0] > 100


def test_a_clip_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ClipWriter(tmp_path / "c.mp4", fps=5) as writer:
            writer.write(coloured((1, 2, 3)))
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_writer_refuses_other_sizes(tmp_path: Path) -> None:
    with ClipWriter(tmp_path / "c.mp4", fps=5) as writer:
        writer.write(coloured((1, 2, 3)))
        with pytest.raises(ValueError, match=r"expected \(64, 96, 3\), got \(64, 98, 3\)"):
            writer.write(coloured((1, 2, 3), width=98))
    with pytest.raises(ValueError, match="even sides, got 97x64"), ClipWriter(tmp_path / "d.mp4", fps=5) as writer:
        writer.write(coloured((1, 2, 3), width=97))


def test_the_version_names_both() -> None:
    assert ffmpeg_version().startswith("FFmpeg ")
    assert "PyAV" in ffmpeg_version()
