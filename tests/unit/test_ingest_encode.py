"""JPEG from planes: the colours must come out right whatever the video's matrix and range."""

import numpy as np
import pytest

from core.jpeg import decode_jpeg
from core.types import Image
from ingest.encode import LUMA_WEIGHTS, Matrix, Planes, encode_planes, jfif_planes


def planes_of(image: Image, matrix: Matrix, *, full_range: bool) -> Planes:
    """Convert RGB to 4:2:0 planes by the textbook (ITU-R BT.601 and BT.709), in floating point."""
    red, blue = LUMA_WEIGHTS[matrix]
    rgb = image.astype(np.float64) / 255
    luma = red * rgb[..., 0] + (1 - red - blue) * rgb[..., 1] + blue * rgb[..., 2]
    cb, cr = (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)
    scale_y, zero, scale_c = (255, 0, 255) if full_range else (219, 16, 224)
    return Planes(
        y=np.rint(luma * scale_y + zero).astype(np.uint8),
        u=np.rint(cb[::2, ::2] * scale_c + 128).clip(0, 255).astype(np.uint8),
        v=np.rint(cr[::2, ::2] * scale_c + 128).clip(0, 255).astype(np.uint8),
        matrix=matrix,
        full_range=full_range,
    )


def skin_patches(width: int = 64, height: int = 48) -> Image:
    """Flat patches of skin, hair, red, green and blue: flat, so that chroma's half resolution does not matter."""
    colours = [(224, 172, 138), (141, 85, 60), (60, 42, 35), (200, 40, 40), (40, 180, 60), (50, 60, 190), (250, 250, 250), (8, 8, 8)]
    image = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate(colours):
        image[:, number * width // 8 : (number + 1) * width // 8] = colour
    return image


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [True, False])
def test_decoded_colours_are_right(matrix: Matrix, full_range: bool) -> None:
    image = skin_patches()
    decoded = decode_jpeg(encode_planes(planes_of(image, matrix, full_range=full_range), 95))
    error = np.abs(decoded.astype(int) - image)[4:-4, 3::8]
    assert error.max() <= 4
    assert error.mean() < 1.5


def test_verbatim_planes_would_be_wrong() -> None:
    """The reason for the correction: limited-range BT.709 read as JPEG is off by many levels."""
    image = skin_patches()
    planes = planes_of(image, "bt709", full_range=False)
    verbatim = Planes(y=planes.y, u=planes.u, v=planes.v, matrix="bt601", full_range=True)
    decoded = decode_jpeg(encode_planes(verbatim, 95))
    assert np.abs(decoded.astype(int) - image)[4:-4, 3::8].mean() > 8


def test_jpegs_own_planes_are_taken_without_a_copy() -> None:
    planes = planes_of(skin_patches(), "bt601", full_range=True)
    assert all(a is b for a, b in zip(jfif_planes(planes), (planes.y, planes.u, planes.v), strict=True))


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize(("width", "height"), [(63, 47), (64, 47), (63, 48), (1, 1), (2, 1), (1, 2)])
def test_odd_sizes(matrix: Matrix, width: int, height: int) -> None:
    image = np.full((height, width, 3), (200, 120, 90), np.uint8)
    decoded = decode_jpeg(encode_planes(planes_of(image, matrix, full_range=False), 95))
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).max() <= 4


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_padded_rows_and_turned_views(matrix: Matrix) -> None:
    planes = planes_of(skin_patches(), matrix, full_range=False)
    padded = Planes(y=pad(planes.y), u=pad(planes.u), v=pad(planes.v), matrix=matrix, full_range=False)
    assert encode_planes(padded, 90) == encode_planes(planes, 90)
    turned = Planes(y=np.rot90(planes.y), u=np.rot90(planes.u), v=np.rot90(planes.v), matrix=matrix, full_range=False)
    assert np.array_equal(decode_jpeg(encode_planes(turned, 95)).shape, (64, 48, 3))


def pad(plane: np.ndarray) -> np.ndarray:
    wide = np.full((plane.shape[0], plane.shape[1] + 32), 77, np.uint8)
    wide[:, : plane.shape[1]] = plane
    return wide[:, : plane.shape[1]]


def test_planes_that_do_not_fit_together_are_refused() -> None:
    luma, chroma = np.zeros((10, 10), np.uint8), np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match=r"Planes\.u: expected 5x5 uint8, got 4x5 uint8"):
        Planes(y=luma, u=chroma, v=chroma, matrix="bt601", full_range=True)


def test_quality_is_checked() -> None:
    with pytest.raises(ValueError, match=r"expected 1\.\.100, got 101"):
        encode_planes(planes_of(skin_patches(), "bt601", full_range=True), 101)
