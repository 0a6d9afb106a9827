"""Photos from people: any common format, any damage, any hostility; the result is plain RGB or one clear error.

Content decides, never the file's name. Sizes are checked from the header, before memory is taken. The functions are pure but for
reading the file, and may run in any thread (Pillow and libjpeg-turbo release the interpreter lock while they decode).
"""

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image
import simplejpeg
from numpy.typing import NDArray

from core.errors import NotFoundError, UnreadableMediaError
from core.types import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
FORMATS_TEXT: Final = "JPEG, PNG, WebP, BMP, GIF, PGM/PPM or TIFF"
MAX_BYTES: Final = 64 << 20
MAX_PIXELS: Final = 64_000_000  # 192 MB as RGB; the largest phone cameras have 50 to 64 megapixels in use
MAX_SIDE_PX: Final = 16_384  # of WebP and of OpenCV's remap (short coordinates)
MAX_SCAN_PIXELS: Final = 2_000_000_000  # a progressive JPEG costs scans x pixels; 64 megapixels in 12 scans is 0.8e9

_START_OF_SCAN = b"\xff\xda"
_ORIENTATION = 0x0112
_DECODER_ERRORS = (
    # what Pillow's parsers raise on damaged input; measured by tests/fault/test_garbage_inputs.py
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    PIL.Image.DecompressionBombError,
)
_FOREIGN: Final = (
    # (offset, magic, what it is and how to mend): the usual mistakes get a better answer than "unknown format"
    (4, b"ftypheic", "is a HEIC photo; export it as JPEG"),
    (4, b"ftypheix", "is a HEIC photo; export it as JPEG"),
    (4, b"ftypmif1", "is a HEIF photo; export it as JPEG"),
    (4, b"ftypavif", "is an AVIF picture; export it as JPEG"),
    (4, b"ftyp", "is a video, not a photo"),
    (0, b"%PDF", "is a PDF; export the page as JPEG"),
    (0, b"PK\x03\x04", "is a zip archive, not a photo"),
    (0, b"RIFF", "is not a picture (a RIFF file of another kind)"),
    (0, b"\x1a\x45\xdf\xa3", "is a video, not a photo"),
)


class UnsupportedPhotoError(UnreadableMediaError):
    """The file is whole, perhaps, but no photo in a format that we read."""


PIL.Image.MAX_IMAGE_PIXELS = 2 * MAX_PIXELS  # Pillow's own guard stays on, behind ours, which has the clearer words
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged metadata, which is none of our users' business
warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


def read_photo(path: Path, *, enough_px: int | None = None) -> Image:
    """Read and decode a photo; see decode_photo.

    Raises:
        NotFoundError: there is no such file. UnreadableMediaError: it is no photo, too large, or can't be read.
    """
    return decode_photo(read_bytes(path), name=path.name, enough_px=enough_px)


def read_bytes(path: Path) -> bytes:
    """Read a photo's file: a regular file of at most MAX_BYTES.

    Raises:
        NotFoundError, UnreadableMediaError: see read_photo.
    """
    name = _one_line(path.name)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableMediaError(f"{name}: is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise NotFoundError(f"{_one_line(str(path))}: no such file") from err
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        raise UnreadableMediaError(f"{name}: can't be read: {getattr(err, 'strerror', None) or err}") from err


def decode_photo(data: bytes, *, name: str, enough_px: int | None = None) -> Image:
    """Decode a photo.

    EXIF orientation is applied; 16-bit and float samples are scaled to 8 bit; transparency is laid on white; of an animation or a
    multi-page file the first picture counts.

    Args:
        data: the whole file.
        name: what to call it in an error.
        enough_px: when given, a JPEG whose longest side is at least twice this may be decoded at 1/2, 1/4 or 1/8 of its size (the
            longest side stays at least this long), which is 2 to 5 times faster.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        UnsupportedPhotoError: it is no photo. UnreadableMediaError: it is damaged or too large. In one line: what, and how to mend it.
    """
    name = _one_line(name)
    if not data:
        raise UnreadableMediaError(f"{name}: the file is empty; copy it again")
    if len(data) > MAX_BYTES:
        raise UnreadableMediaError(f"{name}: larger than {MAX_BYTES >> 20} MB; save it smaller")
    try:
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(picture, data, name)
            pixels = _pixels(picture, data, enough_px)
            orientation = _orientation(picture)  # after loading: Pillow turns TIFFs itself, and then says that they are upright
    except PIL.UnidentifiedImageError as err:
        raise _unidentified(data, name) from err
    except PIL.Image.DecompressionBombError as err:
        raise UnreadableMediaError(f"{name}: has more than {MAX_PIXELS // 1_000_000} megapixels; save it smaller") from err
    except _DECODER_ERRORS as err:
        reason = _one_line(str(err)).rstrip(".") or type(err).__name__
        raise UnreadableMediaError(f"{name}: damaged or truncated ({reason}); copy it again or export it anew") from err
    return np.ascontiguousarray(_TURNS[orientation](pixels))


def upright_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a photo that :func:`decode_photo` reads, as people see it: turned by its EXIF orientation."""
    with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        width, height = picture.size
        return (height, width) if _orientation(picture) > 4 else (width, height)


def _check_size(picture: PIL.Image.Image, data: bytes, name: str) -> None:
    width, height = picture.size
    if width < 1 or height < 1:
        raise UnreadableMediaError(f"{name}: has no pixels ({width}x{height})")
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 1_000_000} megapixels or {MAX_SIDE_PX} pixels a side"
        raise UnreadableMediaError(f"{name}: {width}x{height} pixels, more than {limit}; save it smaller")
    if picture.format in ("JPEG", "MPO") and data.count(_START_OF_SCAN) * width * height > MAX_SCAN_PIXELS:
        raise UnreadableMediaError(f"{name}: has {data.count(_START_OF_SCAN)} progressive scans; save it as a plain JPEG")


def _orientation(picture: PIL.Image.Image) -> int:
    """Return EXIF orientation 1..8; a damaged EXIF block counts as upright."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _pixels(picture: PIL.Image.Image, data: bytes, enough_px: int | None) -> Image:
    """Return (H, W, 3) uint8 RGB as stored."""
    if picture.format in ("JPEG", "MPO") and picture.mode in ("L", "RGB"):
        least_px = _jpeg_size(picture.size, enough_px)
        try:
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB", min_width=least_px[0], min_height=least_px[1]))
        except ValueError:
            pass  # strict about harmless oddities; Pillow forgives those, and still refuses a truncated file
    picture.load()
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _grey_to_rgb(np.asarray(picture))
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", coloured.size, (255, 255, 255, 255))
        return np.asarray(PIL.Image.alpha_composite(white, coloured).convert("RGB"))
    return np.asarray(picture.convert("RGB"))


def _jpeg_size(size: tuple[int, int], enough_px: int | None) -> tuple[int, int]:
    """Return width and height at the smallest of libjpeg-turbo's cheap scales (1, 1/2, 1/4, 1/8) that leaves enough pixels."""
    factor = max(size) / enough_px if enough_px else 1.0
    scale = max((scale for scale in (1, 2, 4, 8) if scale <= factor), default=1)
    return -(-size[0] // scale), -(-size[1] // scale)


def _grey_to_rgb(grey: NDArray[np.generic]) -> Image:
    """Scale integer or float grey of any range to 8 bit: by 1 up to 255, by 257 up to 65535, by 1/255 up to 1.0."""
    values = np.nan_to_num(grey.astype(np.float32), nan=0.0, posinf=65535.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    if grey.dtype.kind == "f" and top <= 1.0:
        values *= 255.0
    elif top > 255.0 or grey.dtype == np.uint16:
        values /= 257.0
    eight = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.repeat(eight[:, :, None], 3, axis=2)


_TURNS: Final[dict[int, Callable[[Image], Image]]] = {
    # EXIF 2.32, tag 274: what to do with the stored rows and columns to see the picture upright
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda image: image.transpose(1, 0, 2)[::-1],
}


def _unidentified(data: bytes, name: str) -> UnreadableMediaError:
    for offset, magic, words in _FOREIGN:
        if data.startswith(magic, offset):
            return UnsupportedPhotoError(f"{name}: {words}")
    if data.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")):
        return UnreadableMediaError(f"{name}: damaged at its start; copy it again or export it anew")
    return UnsupportedPhotoError(f"{name}: is not a picture in a known format; use {FORMATS_TEXT}")


def _one_line(text: str) -> str:
    """Return the text without line breaks and control characters, at most 200 characters."""
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
