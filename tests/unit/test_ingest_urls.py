"""Camera addresses: kinds and redaction."""

from pathlib import Path

import pytest

from core.errors import UsageError
from ingest.urls import clips_in, kind_of, redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:geheim@10.0.0.5:554/stream1", "rtsp://***@10.0.0.5:554/stream1"),
        ("rtsp://admin@10.0.0.5/stream1", "rtsp://***@10.0.0.5/stream1"),
        ("rtsp://admin:p@ss:w@rd@10.0.0.5/stream1", "rtsp://***@10.0.0.5/stream1"),
        ("rtsp://admin:a/b@10.0.0.5/stream1", "rtsp://***@10.0.0.5/stream1"),
        ("rtsp://admin:a?b#c@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
        ("rtsp://admin:000?@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
        ("rtsp://10.0.0.5:554/stream1", "rtsp://10.0.0.5:554/stream1"),
        ("rtsp://[fe80::1]:554/s", "rtsp://[fe80::1]:554/s"),
        ("rtsp://10.0.0.5/user=admin&password=x1y2&channel=1", "rtsp://10.0.0.5/user=***&password=***&channel=1"),
        ("http://cam/video?Token=abc&res=hd", "http://cam/video?Token=***&res=hd"),
        ("http://cam/snap?pwd=a%20b;channel=2", "http://cam/snap?pwd=***;channel=2"),
        ("/videos/door.mp4", "/videos/door.mp4"),
    ],
)
def test_no_credential_is_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_urls_inside_a_text_are_redacted() -> None:
    assert redact("can't open 'rtsp://a:b@c/d' after 3 s") == "can't open 'rtsp://***@c/d' after 3 s"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rtsp://h/1", "rtsp"),
        ("rtsp+udp://h/1", "rtsp"),
        ("RTSPS://h/1", "rtsp"),
        ("https://h/x.m3u8", "http"),
        ("srt://h:9000", "network"),
        ("/dev/video12", "device"),
        ("v4l2:///dev/video0", "device"),
        ("door.mp4", "file"),
        ("file:///videos/door.mp4", "file"),
    ],
)
def test_kinds(url: str, kind: str) -> None:
    assert kind_of(url) == kind


def test_a_folder_is_a_folder_with_or_without_scheme(tmp_path: Path) -> None:
    assert kind_of(str(tmp_path)) == kind_of(f"file://{tmp_path}") == "folder"


@pytest.mark.parametrize(
    ("url", "message"), [("", "URL is empty"), ("rtsp://", "URL is empty"), ("concat://a|b", "scheme 'concat' is not supported")]
)
def test_what_is_no_camera_is_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind_of(url)


def test_clips_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4", "c.avi"):
        (tmp_path / name).touch()
    assert [path.name for path in clips_in(tmp_path)] == ["a.MKV", "b.mp4", "c.avi"]
