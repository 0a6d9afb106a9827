"""JPEG in and out."""

import struct

import numpy as np
import pytest

from core.errors import UnreadableMediaError
from core.jpeg import decode_jpeg, encode_jpeg
from core.types import Image


def gradient(width: int, height: int) -> Image:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), np.full_like(x, 128)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (1, 1), (17, 200)])
def test_round_trip_keeps_size_and_colour(width: int, height: int) -> None:
    image = gradient(width, height)
    decoded = decode_jpeg(encode_jpeg(image, 95))
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 4


def test_rgb_order_is_kept() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    assert decode_jpeg(encode_jpeg(red, 95))[8, 8, 0] > 240


def test_strided_views_are_encoded_as_seen() -> None:
    image = gradient(64, 48)
    assert encode_jpeg(image[:, ::-1], 90) == encode_jpeg(image[:, ::-1].copy(), 90)


def test_a_memoryview_decodes_like_bytes() -> None:
    data = encode_jpeg(gradient(32, 32), 90)
    assert np.array_equal(decode_jpeg(memoryview(b"xx" + data)[2:]), decode_jpeg(data))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"GIF89a", bytes(1000), encode_jpeg(gradient(64, 64), 90)[:-300]])
def test_damage_is_one_clear_line(data: bytes) -> None:
    with pytest.raises(UnreadableMediaError, match=rf"^JPEG of {len(data)} bytes can't be decoded: .+") as caught:
        decode_jpeg(data)
    assert "\n" not in str(caught.value)


def test_giant_dimensions_are_refused_from_the_header() -> None:
    data = bytearray(encode_jpeg(gradient(64, 64), 90))
    size_at = data.index(b"\xff\xc0") + 5
    data[size_at : size_at + 4] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(UnreadableMediaError, match="60000x60000 pixels: more than 64 megapixels"):
        decode_jpeg(bytes(data))


@pytest.mark.parametrize(
    ("image", "quality", "message"),
    [
        (np.zeros((4, 4), np.uint8), 90, "expected NxNx3 uint8, got 4x4 uint8"),
        (np.zeros((0, 4, 3), np.uint8), 90, "at least one pixel, got 4x0"),
        (np.zeros((4, 4, 3), np.uint8), 0, "expected 1..100, got 0"),
    ],
)
def test_wrong_input_says_what_was_expected(image: Image, quality: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_jpeg(image, quality)
