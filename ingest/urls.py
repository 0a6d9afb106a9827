"""Camera addresses: what kind of source a URL names, and how it may be shown. Pure, but for asking whether a path is a folder."""

import re
from pathlib import Path
from typing import Literal

from core.errors import UsageError

Kind = Literal["rtsp", "http", "network", "device", "file", "folder"]
SCHEMES: dict[str, Kind] = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "rtsp+tcp": "rtsp",
    "rtsp+udp": "rtsp",
    "http": "http",
    "https": "http",
    "rtmp": "network",
    "rtmps": "network",
    "srt": "network",
    "udp": "network",
    "rtp": "network",
    "v4l2": "device",
    "file": "file",
}
# fmt: off
CLIP_SUFFIXES = frozenset((
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".gif",
    ".h264", ".264", ".h265", ".hevc",
))
# fmt: on
HIDDEN = "***"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_SECRET_NAMES = "pass(?:word|wd|phrase)?|pwd|token|secret|sig(?:nature)?|key|auth|usr|user(?:name)?"
_SECRET_VALUE = re.compile(rf"((?:{_SECRET_NAMES})=)[^&;_/?#\s]*", re.IGNORECASE)


def split_scheme(url: str) -> tuple[str, str]:
    """Return (scheme, rest after ``://``); the scheme is empty for a plain path."""
    scheme, separator, rest = url.partition("://")
    return (scheme.lower(), rest) if separator else ("", url)


def kind_of(url: str) -> Kind:
    """Say what a URL or path names.

    Raises:
        UsageError: empty, or a scheme that is not supported.
    """
    scheme, rest = split_scheme(url)
    if not rest:
        raise UsageError("camera URL is empty: give rtsp://..., http://..., a file, a folder of clips or /dev/videoN")
    if scheme:
        if scheme not in SCHEMES:
            raise UsageError(f"camera URL scheme {scheme!r} is not supported: use one of {', '.join(sorted(SCHEMES))}, or a path")
        if SCHEMES[scheme] != "file":
            return SCHEMES[scheme]
    if re.fullmatch(r"/dev/video\d+", rest):
        return "device"
    return "folder" if Path(rest).is_dir() else "file"


def redact(text: str) -> str:
    """Return a URL, or a text with URLs in it, without credentials: user names, passwords, tokens and keys become ``***``."""
    return _URL.sub(lambda found: _redact_url(found.group()), text)


def _redact_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if "@" in rest:  # a password may hold any sign, even / and @: everything up to the last @ may be secret
        rest = f"{HIDDEN}@{rest.rpartition('@')[2]}"
    return f"{scheme}://" + _SECRET_VALUE.sub(rf"\g<1>{HIDDEN}", rest)


def clips_in(folder: Path) -> list[Path]:
    """Return the video files of a folder in the order of their names; hidden files and other types are left out."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in CLIP_SUFFIXES and not path.name.startswith("."))
