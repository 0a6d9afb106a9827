"""core.photo: formats, orientation, sample types, limits, words."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from core.errors import NotFoundError, UnreadableMediaError
from core.photo import MAX_BYTES, UnsupportedPhotoError, decode_photo, read_photo


def scene(width: int = 64, height: int = 48) -> PIL.Image.Image:
    """A smooth picture, red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return PIL.Image.fromarray(np.stack([x, y, np.full_like(x, 40)], axis=2).astype(np.uint8))


def saved(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 6),
        ("JPEG", {"quality": 95, "progressive": True}, 6),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("BMP", {}, 0),
        ("PPM", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("GIF", {}, 20),
    ],
)
def test_every_format_whatever_its_name(kind: str, options: dict[str, object], tolerance: int) -> None:
    image = decode_photo(saved(scene(), kind, **options), name="wrong.name")
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - np.asarray(scene()).astype(int)).mean() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_shows_the_picture_upright(kind: str, orientation: int) -> None:
    upright = scene()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpose codes that make the stored picture of each orientation
    stored = upright.transpose(PIL.Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = decode_photo(saved(stored, kind, exif=exif), name="x")
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - np.asarray(upright).astype(int)).mean() < 8


@pytest.mark.parametrize("value", [0, 9, 99])
def test_orientation_out_of_range_counts_as_upright(value: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    assert decode_photo(saved(scene(), "JPEG", exif=exif), name="x").shape == (48, 64, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGBA", "LA"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    image = decode_photo(saved(scene().convert(mode), kind), name="x")
    assert image.shape == (48, 64, 3)
    assert image[-1, -1, 1] > image[0, 0, 1]


def test_sixteen_bit_grey_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    for data in (saved(PIL.Image.fromarray(ramp), "PNG"), b"P5 64 48 65535\n" + ramp.astype(">u2").tobytes()):
        image = decode_photo(data, name="x")
        assert (int(image[0, 0, 0]), int(image[-1, -1, 0])) == (0, 255)
        assert np.abs(image[..., 0].astype(int) - ramp // 257).max() <= 1


def test_dark_sixteen_bit_grey_is_not_stretched() -> None:
    assert decode_photo(saved(PIL.Image.fromarray(np.full((8, 8), 100, np.uint16)), "PNG"), name="x").max() == 0


def test_float_tiff_of_zero_to_one() -> None:
    assert decode_photo(saved(PIL.Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), name="x")[0, 0].tolist() == [128] * 3


def test_transparency_is_laid_on_white() -> None:
    clear = PIL.Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert decode_photo(saved(clear, "PNG"), name="x").min() == 255


def test_animation_counts_by_its_first_picture() -> None:
    red, blue = PIL.Image.new("RGB", (8, 8), (255, 0, 0)), PIL.Image.new("RGB", (8, 8), (0, 0, 255))
    for kind in ("GIF", "WEBP", "PNG"):
        data = saved(red, kind, save_all=True, append_images=[blue])
        assert decode_photo(data, name="x")[0, 0, 0] > 200


def test_large_jpeg_may_be_decoded_smaller() -> None:
    data = saved(scene(1600, 1200), "JPEG")
    assert decode_photo(data, name="x").shape == (1200, 1600, 3)
    assert decode_photo(data, name="x", enough_px=700).shape == (600, 800, 3)
    assert decode_photo(data, name="x", enough_px=801).shape == (1200, 1600, 3)


JPEG = saved(scene(), "JPEG")
PNG = saved(scene(), "PNG")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a.jpg: the file is empty; copy it again"),
        (b"hello", "a.jpg: is not a picture in a known format; use JPEG, PNG, WebP, BMP, GIF, PGM/PPM or TIFF"),
        (b"%PDF-1.7", "a.jpg: is a PDF; export the page as JPEG"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(20), "a.jpg: is a HEIC photo; export it as JPEG"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(20), "a.jpg: is a video, not a photo"),
        (b"PK\x03\x04", "a.jpg: is a zip archive, not a photo"),
        (b"\xff\xd8\xff\xe0", "a.jpg: damaged at its start; copy it again or export it anew"),
        (bytes(MAX_BYTES + 1), "a.jpg: larger than 64 MB; save it smaller"),
    ],
)
def test_what_is_no_photo_says_so_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(UnreadableMediaError) as caught:
        decode_photo(data, name="a.jpg")
    assert str(caught.value) == words


@pytest.mark.parametrize("data", [JPEG[: len(JPEG) // 2], PNG[: len(PNG) // 2], JPEG[:-200], saved(scene(), "TIFF")[:2000]])
def test_truncated_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableMediaError, match=r"truncated|damaged"):
        decode_photo(data, name="x")


def test_unsupported_is_told_from_damaged() -> None:
    with pytest.raises(UnsupportedPhotoError):
        decode_photo(b"MZ" + bytes(100), name="x")


def test_names_with_line_breaks_stay_on_one_line() -> None:
    with pytest.raises(UnreadableMediaError) as caught:
        decode_photo(b"", name="a\nb\x1b[31m.jpg")
    assert str(caught.value) == "a?b?[31m.jpg: the file is empty; copy it again"


def test_decompression_bomb_is_refused_from_its_header() -> None:
    for side, words in ((20_000, "20000x10 pixels, more than 64 megapixels or 16384 pixels a side"),):
        with pytest.raises(UnreadableMediaError, match=words):
            decode_photo(b"P6 %d 10 255\n" % side, name="x")
    with pytest.raises(UnreadableMediaError, match=r"more than 64 megapixels"):
        decode_photo(b"P6 16000 16000 255\n", name="x")


def test_jpeg_with_endless_scans_is_refused() -> None:
    progressive = saved(scene(4000, 4000), "JPEG", progressive=True)
    bomb = progressive[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 500 + b"\xff\xd9"
    with pytest.raises(UnreadableMediaError, match="progressive scans; save it as a plain JPEG"):
        decode_photo(bomb, name="x")


def test_reading_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nobody\.jpg: no such file"):
        read_photo(tmp_path / "nobody.jpg")
    with pytest.raises(UnreadableMediaError, match="is not a regular file"):
        read_photo(tmp_path)
    with pytest.raises(UnreadableMediaError, match="is not a regular file"):
        read_photo(Path("/dev/zero"))
