"""How a source is opened and what is found: FFmpeg's options, and where it may connect to. Nothing here needs FFmpeg."""

from dataclasses import dataclass
from pathlib import Path

from core.errors import UnreadableMediaError
from core.outbound import CAMERA_SCHEMES, Target, pin
from ingest.urls import Kind, kind_of, redact, split_scheme

MAX_PIXELS = 64_000_000  # width x height; 8K video has 33 megapixels, a bomb has thousands
STREAM_FORMATS = "mjpeg,mpjpeg,mpegts,mov,matroska,flv,h264,hevc,m4v,mpeg,mpegvideo,ogg,jpeg_pipe,image2pipe"
"""What a client's URL may send over HTTP and RTMP: no playlists, which would lead anywhere."""
FILE_FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,h264,hevc,m4v,flv,asf,gif,ogg,mjpeg,ivf,obu,mxf,3gp,apng"
"""Demuxers that a file may choose. Playlists are left out: a hostile file could make us read other files and hosts."""
_WEB = "http,https,tls,tcp,httpproxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How to open and decode."""

    open_timeout_s: float = 8.0
    read_timeout_s: float = 8.0
    """A stream that sends no picture for this long is frozen."""
    threads: int = 1
    """Decoder threads: 1 for cameras (least delay and least total work; see docs/ingest.md), 0 = as many as cores."""
    skip_loop_filter: bool = False
    """Leave out H.264's deblocking: 20 to 28 % less decoding, blockier pictures."""
    allow: tuple[str, ...] | None = None
    """The URL came from a client of the API: it may lead to the public internet and to these networks and hosts only, and no redirect or
    playlist leads on from there. None = it came from who has the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What was found when the source was opened."""

    kind: Kind
    url: str
    """Redacted."""
    container: str
    codec: str
    width_px: int
    height_px: int
    fps: float | None
    """As stated; cameras often state it wrongly."""
    pixel_format: str
    duration_s: float | None
    live: bool
    """No known end: a camera, not a recording."""
    clocked: bool
    """The timestamps come from the source, not from FFmpeg's guess of a frame rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What FFmpeg is asked for."""

    kind: Kind
    address: str
    """With credentials; of a client's URL with the judged address in place of the name."""
    settings: dict[str, str]
    """Names and values as FFmpeg's own."""
    demuxer: str | None = None
    """None = FFmpeg looks at what comes, among the formats that the settings allow."""


def opening_of(url: str, options: SourceOptions) -> Opening:
    """Return how a URL is opened. Blocks while the name in a client's URL is resolved.

    Raises:
        UsageError: the URL's scheme is not supported, or (AddressRefusedError) it leads where a client may not send us.
        UnreadableMediaError: a path to something that is neither a file nor absent.
        UnavailableError: the name in a client's URL is not known.
    """
    guarded: dict[str, str] = {}
    if options.allow is not None:
        target = pin(url, allow=options.allow, schemes=CAMERA_SCHEMES)
        url, guarded = target.pinned_url, _guarded(kind_of(target.pinned_url), target)
    kind = kind_of(url)
    scheme, rest = split_scheme(url)
    quick = {"fflags": "nobuffer", "analyzeduration": "200000", "probesize": "100000"}  # opens in 0.3 s instead of 1.9 s
    if kind == "rtsp":
        transport = "udp" if scheme == "rtsp+udp" else "tcp"
        socket_us = str(int(2e6 * max(options.open_timeout_s, options.read_timeout_s)))  # PyAV's own limits come first and tell why
        rtsp = {"rtsp_transport": transport, "allowed_media_types": "video", "timeout": socket_us, "buffer_size": str(4 << 20)}
        settings = quick | rtsp | _only("tcp,tls,udp,rtp,srtp") | guarded
        return Opening(kind=kind, address=f"{scheme.partition('+')[0]}://{rest}", demuxer="rtsp", settings=settings)
    if kind in ("http", "network"):
        allowed = f"{_WEB},crypto" if kind == "http" else "tls,tcp,udp,rtp,rtmp,rtmps,rtmpt,srt,http,https"
        slow = {"analyzeduration": "1000000", "probesize": "1000000"}
        return Opening(kind=kind, address=url, settings=slow | {"fflags": "nobuffer"} | _only(allowed) | guarded)
    if kind == "device":
        return Opening(kind=kind, address=rest, demuxer="v4l2", settings={})
    if Path(rest).exists() and not Path(rest).is_file():
        raise UnreadableMediaError(f"{redact(url)}: not a regular file; give a video file")  # a pipe could block for ever
    settings = {"format_whitelist": FILE_FORMATS, "protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
    return Opening(kind=kind, address=f"file:{rest}", settings=settings)


def _guarded(kind: Kind, target: Target) -> dict[str, str]:
    """Return the options with which nothing but the judged address is connected to."""
    if kind == "http":
        return {"headers": f"Host: {target.authority}\r\n", "max_redirects": "0", "format_whitelist": STREAM_FORMATS} | _only(_WEB)
    return {"format_whitelist": STREAM_FORMATS} | _only("rtmp,rtmps,tcp,tls") if kind == "network" else {}


def _only(protocols: str) -> dict[str, str]:
    return {"protocol_whitelist": protocols}
