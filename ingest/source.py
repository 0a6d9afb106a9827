"""Video in and out through FFmpeg (PyAV). The only importer of ``av``.

A source is opened and read in one thread; PyAV releases the interpreter lock while it waits and decodes. FFmpeg's own
messages carry URLs with their passwords, so no error of PyAV leaves this module, not even as a cause: every text is
written here, with the redacted URL.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.error
import numpy as np
from av.stream import Discard
from av.video.reformatter import ColorRange, Colorspace

from core.errors import NotFoundError, SightlineError, UnavailableError, UnreadableMediaError
from core.types import U8, Image, check_array
from ingest.encode import Matrix, Planes
from ingest.opening import MAX_PIXELS, SourceInfo, SourceOptions, opening_of
from ingest.urls import Kind, redact

SILENT_ERRORS = 250  # packets in a row that can't be decoded (10 s at 25 fps) before a live stream is given up
HD_WIDTH, HD_HEIGHT = 1280, 576
"""Untagged video of at least this width or more than this height is BT.709, else BT.601. A convention of players, not a standard."""
_PLANAR = {"yuv420p": False, "yuvj420p": True}  # formats whose planes are taken as they are; True = full range by name
_TAGGED: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709"}
"""AVColorSpace to matrix: FCC and the two 601 flavours differ by less than a level; SMPTE 240M is nearest to 709."""
_BT2020 = (9, 10)
_UNSPECIFIED = 2
_SWS = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}


@dataclass(slots=True)
class DecodeCounts:
    """Running totals of one source. Written by its thread, may be read by any."""

    frames: int = 0
    errors: int = 0
    """Packets that could not be decoded and frames that came out damaged; both are skipped."""


class DecodedFrame:
    """One decoded picture. Thread rule: use it in the thread that decoded it; its planes keep it alive."""

    __slots__ = ("_frame", "_rotation", "height_px", "pts_s", "width_px")

    def __init__(self, frame: Any) -> None:
        if frame.colorspace not in _TAGGED and frame.colorspace not in _BT2020:
            frame.colorspace = _UNSPECIFIED  # reserved values come from damaged streams, and swscale refuses them
        self._frame = frame
        self.pts_s: float | None = frame.time
        """Presentation time in the stream's own seconds, None if it has none."""
        self._rotation = round(frame.rotation / 90) % 4
        self.width_px, self.height_px = (frame.height, frame.width) if self._rotation % 2 else (frame.width, frame.height)

    def planes(self) -> Planes:
        """Return the picture as 4:2:0 planes: views without a copy for the common formats, converted otherwise."""
        frame, matrix, full_range = self._frame, _matrix_of(self._frame), _is_full_range(self._frame)
        if frame.format.name not in _PLANAR or matrix is None:
            jpeg = {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.JPEG}
            frame = self._converted(format="yuv420p", **jpeg)
            matrix, full_range = "bt601", True
        y, u, v = (_view(plane, self._rotation) for plane in frame.planes)
        return Planes(y=y, u=u, v=v, matrix=matrix, full_range=full_range)

    def luma(self) -> U8:
        """Return the (H, W) uint8 luma plane: a strided view where the format has one."""
        if self._frame.format.name in _PLANAR:
            return _view(self._frame.planes[0], self._rotation)
        return self.planes().y

    def rgb(self) -> Image:
        """Return the picture as (H, W, 3) uint8 RGB, with the matrix and range that the stream states or its size implies."""
        image = self._converted(format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(image, self._rotation)) if self._rotation else np.asarray(image)

    def _converted(self, **wanted: Any) -> Any:
        """Convert with swscale, which by itself takes untagged video for BT.601 and must be told better."""
        matrix = _matrix_of(self._frame)
        colours: dict[str, Any] = {} if matrix is None else {"src_colorspace": _SWS[matrix]}
        if _is_full_range(self._frame):
            colours["src_color_range"] = ColorRange.JPEG
        try:
            return self._frame.reformat(threads=1, **colours, **wanted)
        except av.error.FFmpegError:
            name, width, height = self._frame.format.name, self._frame.width, self._frame.height
            raise UnreadableMediaError(f"a picture of {width}x{height} in format {name} can't be converted") from None


def _matrix_of(frame: Any) -> Matrix | None:
    """Return the frame's matrix, or None for one that only swscale knows (BT.2020)."""
    if frame.colorspace in _BT2020:
        return None
    guess: Matrix = "bt709" if frame.width >= HD_WIDTH or frame.height > HD_HEIGHT else "bt601"
    return _TAGGED.get(frame.colorspace, guess)


def _is_full_range(frame: Any) -> bool:
    return bool(frame.color_range == 2 or frame.format.name.startswith("yuvj"))


def _view(plane: Any, rotation: int) -> U8:
    view: U8 = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
    return np.rot90(view, rotation) if rotation else view


class Source(AbstractContextManager["Source"]):
    """An open recording or stream. Thread rule: one thread opens, reads and closes it. Made by ``open_source``."""

    def __init__(self, container: Any, stream: Any, info: SourceInfo, options: SourceOptions) -> None:
        self._container, self._stream, self._options = container, stream, options
        self.info = info
        self.counts = DecodeCounts()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection or file. May be called twice."""
        self._container.close()

    def frames(self) -> Iterator[DecodedFrame]:
        """Decode to the end. What can't be decoded is counted and skipped.

        Yields:
            Frames in presentation order.

        Raises:
            UnavailableError: a live stream froze, broke, or sends nothing that can be decoded.
            UnreadableMediaError: a recording without any picture.
        """
        failures = 0
        for packet in self._packets():
            frames, failed = self._decode(packet)
            failures = 0 if frames else failures + failed
            if failures >= SILENT_ERRORS and self.info.live:
                raise UnavailableError(f"{self.info.url}: {failures} packets in a row can't be decoded; check the camera's codec settings")
            yield from frames
        if not self.counts.frames and not self.info.live:
            raise UnreadableMediaError(f"{self.info.url}: no picture in it can be decoded; the file is damaged or cut off")

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._stream)
        except av.error.FFmpegError as err:
            if self.info.live:
                raise _explained(err, self.info.kind, self.info.url, self._options.read_timeout_s) from None
            self.counts.errors += 1  # a recording that breaks off: what came before it counts

    def _decode(self, packet: Any) -> tuple[list[DecodedFrame], int]:
        try:
            decoded = packet.decode()
        except av.error.EOFError:
            return [], 0
        except av.error.FFmpegError:
            self.counts.errors += 1
            return [], 1
        whole = [DecodedFrame(frame) for frame in decoded if not frame.is_corrupt]
        self.counts.errors += len(decoded) - len(whole)
        self.counts.frames += len(whole)
        return whole, 0


def open_source(url: str, options: SourceOptions | None = None) -> Source:
    """Open a stream, device or file (for folders see ``ingest.recordings``). Blocks for up to ``open_timeout_s`` twice.

    Raises:
        UsageError: the URL's scheme is not supported, or (AddressRefusedError) it leads where a client may not send us.
        NotFoundError: no such file.
        UnreadableMediaError: a file that is no video, is damaged, or has more than MAX_PIXELS.
        UnavailableError: a stream or device that does not answer or refuses.
    """
    options = options or SourceOptions()
    shown, opening = redact(url), opening_of(url, options)
    kind, begin_s = opening.kind, time.monotonic()
    try:
        timeouts = (options.open_timeout_s, options.read_timeout_s)
        container = av.open(opening.address, "r", opening.demuxer, options=opening.settings, timeout=timeouts, metadata_errors="ignore")
    except av.error.FFmpegError as err:
        if kind != "file" and time.monotonic() - begin_s > 0.9 * options.open_timeout_s:  # cut off by PyAV, whatever FFmpeg calls it
            raise _silent(shown, options.open_timeout_s) from None
        raise _explained(err, kind, shown, options.open_timeout_s) from None
    try:
        return _source_of(container, kind, shown, options)
    except BaseException:  # whatever it is, no connection stays open
        container.close()
        raise


def _source_of(container: Any, kind: Kind, shown: str, options: SourceOptions) -> Source:
    """Choose the video stream, refuse what is too large, and set the decoder up."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not streams:
        raise _refused(kind, f"{shown}: no video stream in it that can be decoded")
    stream = streams[0]
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise _refused(kind, f"{shown}: {context.width}x{context.height} pixels: more than {MAX_PIXELS // 1_000_000} megapixels")
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all  # sound does not count as a sign of life
    context.thread_type = "NONE" if options.threads == 1 else "AUTO"
    context.thread_count = options.threads
    context.options = {"max_pixels": str(MAX_PIXELS)} | ({"skip_loop_filter": "all"} if options.skip_loop_filter else {})
    duration_s = container.duration / 1e6 if container.duration else None
    live = kind in ("rtsp", "network", "device") or (kind == "http" and duration_s is None)
    info = SourceInfo(
        kind=kind,
        url=shown,
        container=container.format.name.split(",")[0],
        codec=context.name,
        width_px=context.width,
        height_px=context.height,
        fps=float(stream.average_rate) if stream.average_rate else None,
        pixel_format=context.pix_fmt or "unknown",
        duration_s=None if live else duration_s,
        live=live,
        clocked=container.format.name not in ("mpjpeg", "mjpeg", "h264", "hevc"),
    )
    return Source(container, stream, info, options)


def _refused(kind: Kind, text: str) -> SightlineError:
    return UnreadableMediaError(text) if kind == "file" else UnavailableError(text)


def _explained(err: Any, kind: Kind, shown: str, timeout_s: float) -> SightlineError:
    """Turn FFmpeg's error into ours, in one line, without the address that FFmpeg would print."""
    if kind == "file":
        if isinstance(err, av.error.FileNotFoundError):
            return NotFoundError(f"{shown}: no such file")
        if isinstance(err, av.error.PermissionError):
            return UnreadableMediaError(f"{shown}: not allowed to read it; check the file's permissions")
        return UnreadableMediaError(f"{shown}: not a video, or damaged ({_reason(err)})")
    if isinstance(err, av.error.ExitError | av.error.TimeoutError | av.error.BlockingIOError):
        return _silent(shown, timeout_s)
    if isinstance(err, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return UnavailableError(f"{shown}: refuses these credentials; check user name and password in the URL")
    if isinstance(err, av.error.HTTPNotFoundError):
        return UnavailableError(f"{shown}: has no such stream; check the path in the URL")
    if isinstance(err, av.error.FileNotFoundError):
        return UnavailableError(f"{shown}: no such device")
    return UnavailableError(f"{shown}: {_reason(err)}")


def _silent(shown: str, timeout_s: float) -> UnavailableError:
    return UnavailableError(f"{shown}: no answer within {timeout_s:g} s; check that the camera is on and reachable")


def _reason(err: Any) -> str:
    return redact(str(err.strerror or type(err).__name__)).lower().rstrip(".")


class ClipWriter(AbstractContextManager["ClipWriter"]):
    """Writes RGB images to an H.264 MP4; the file appears whole when closed, or not at all. Thread rule: one thread.

    A path that ends in ``.h264`` becomes a bare Annex B stream as cameras send it: no picture waits for a later one, and the parameter
    sets come before each key frame.
    """

    def __init__(self, path: Path, *, fps: int, gop: int | None = None, crf: int = 23) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._fps, self._gop, self._crf = fps, gop or 2 * fps, crf
        self._container: Any = None
        self._stream: Any = None
        self._shape: tuple[int, ...] = ()

    def write(self, image: Image) -> None:
        """Append one image.

        Args:
            image: (H, W, 3) uint8 RGB, even sides, the same size each time.

        Raises:
            ValueError: another size than before, or odd sides.
        """
        check_array("ClipWriter.image", image, (None, None, 3), np.uint8)
        if self._container is None:
            self._begin(image)
        if image.shape != self._shape:
            raise ValueError(f"ClipWriter.image: expected {self._shape}, got {image.shape}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        space = Colorspace.ITU709 if self._stream.codec_context.colorspace == 1 else Colorspace.ITU601
        self._mux(frame.reformat(format="yuv420p", dst_colorspace=space, dst_color_range=ColorRange.MPEG, threads=1))

    def _begin(self, image: Image) -> None:
        height, width = image.shape[:2]
        if height % 2 or width % 2 or not image.size:
            raise ValueError(f"ClipWriter.image: expected even sides, got {width}x{height}")
        self._shape = image.shape
        bare = self._path.suffix == ".h264"
        self._container = (
            av.open(str(self._part), "w", format="h264")
            if bare
            else av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
        )
        self._stream = stream = self._container.add_stream("libx264", rate=Fraction(self._fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.gop_size, context.thread_count = self._gop, 1
        context.options = {"preset": "veryfast", "crf": str(self._crf)} | ({"tune": "zerolatency"} if bare else {})
        context.color_range = 1
        context.colorspace = 1 if width >= HD_WIDTH or height > HD_HEIGHT else 6

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._container is not None:
            self._mux(None)
            self._container.close()
            self._container = None
            self._part.replace(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif self._container is not None:
            self._container.close()
            self._container = None
            self._part.unlink(missing_ok=True)


def ffmpeg_version() -> str:
    """Return the version of the FFmpeg inside PyAV and PyAV's own, for ``sightline doctor``."""
    return f"FFmpeg {av.ffmpeg_version_info} (PyAV {av.__version__})"
