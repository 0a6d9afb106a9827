"""H.264 streams into pictures and RTP payloads."""

import pytest

from cli.services.annexb import MTU_BYTES, Clip, read_clip
from core.errors import UnreadableMediaError

SPS, PPS, SEI = b"\x67\x42\x00\x1e", b"\x68\xce\x38\x80", b"\x06\x05\x01"
IDR, IDR_REST = b"\x65\x88\x11", b"\x65\x48\x22"
P = b"\x41\x9a\x33"


def stream(*units: bytes, start: bytes = b"\x00\x00\x00\x01") -> bytes:
    return b"".join(start + unit for unit in units)


def test_annexb_groups_units_into_pictures() -> None:
    clip = read_clip(stream(SPS, PPS, SEI, IDR, P, P, SPS, PPS, IDR), fps=5, name="x")
    assert [picture.key for picture in clip.pictures] == [True, False, False, True]
    assert clip.pictures[0].payloads == (SPS, PPS, SEI, IDR)
    assert clip.pictures[3].payloads == (SPS, PPS, IDR)
    assert clip.duration_s == pytest.approx(0.8)


def test_annexb_keeps_the_slices_of_a_picture_together() -> None:
    clip = read_clip(stream(SPS, PPS, IDR, IDR_REST, P, start=b"\x00\x00\x01"), fps=5, name="x")
    assert [len(picture.payloads) for picture in clip.pictures] == [4, 1]


def test_annexb_parameter_sets_are_base64() -> None:
    clip = read_clip(stream(SPS, PPS, IDR), fps=5, name="x")
    assert clip.parameter_sets == "Z0IAHg==,aM44gA=="


def _rebuilt(clip: Clip) -> bytes:
    """Put the fragments of the last picture's last unit together again, as a receiver does."""
    fragments = [payload for payload in clip.pictures[-1].payloads if payload[0] & 31 == 28]
    header = bytes([fragments[0][0] & 0xE0 | fragments[0][1] & 31])
    return header + b"".join(fragment[2:] for fragment in fragments)


@pytest.mark.parametrize("size", [MTU_BYTES + 1, 2 * MTU_BYTES, 2 * MTU_BYTES + 1, 3 * MTU_BYTES + 7])
def test_annexb_fragments_of_a_large_unit(size: int) -> None:
    large = b"\x65\x88" + b"\xab" * (size - 2)
    clip = read_clip(stream(SPS, PPS, large), fps=5, name="x")
    fragments = clip.pictures[0].payloads[2:]
    assert _rebuilt(clip) == large
    assert [bool(fragment[1] & 0x80) for fragment in fragments] == [True] + [False] * (len(fragments) - 1)
    assert [bool(fragment[1] & 0x40) for fragment in fragments] == [False] * (len(fragments) - 1) + [True]
    assert all(len(fragment) <= MTU_BYTES + 2 for fragment in fragments)


@pytest.mark.parametrize("data", [b"", b"not a stream", stream(P, P), stream(IDR)])
def test_annexb_says_what_it_does_not_take(data: bytes) -> None:
    with pytest.raises(UnreadableMediaError, match=r"^clip: not an H\.264 stream that begins with a key frame$"):
        read_clip(data, fps=5, name="clip")
