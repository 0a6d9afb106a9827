"""JPEG in and out, for the frames and thumbnails that we made ourselves. Photos from people go through ``core.photo``.

Both functions are pure and may run in any thread; simplejpeg (libjpeg-turbo) releases the interpreter lock while it works.
JPEG colour is full-range BT.601 (JFIF); encoding from video planes lives in ``ingest.encode``.
"""

import numpy as np
import simplejpeg

from core.errors import UnreadableMediaError
from core.types import Image, check_array

MAX_PIXELS = 64_000_000
"""Width x height above which a picture is refused from its header, before memory is taken (8K video is 33 megapixels)."""


def decode_jpeg(data: bytes | memoryview) -> Image:
    """Decode one JPEG.

    Args:
        data: the whole file; gray, YCbCr and RGB JPEGs are accepted, CMYK is not.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UnreadableMediaError: damaged, truncated, empty, not a JPEG, or larger than MAX_PIXELS.
    """
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            raise UnreadableMediaError(f"JPEG of {width}x{height} pixels: more than {MAX_PIXELS // 1_000_000} megapixels; shrink it first")
        if colorspace in ("CMYK", "YCCK"):
            raise UnreadableMediaError(f"JPEG in {colorspace} colours: convert it to RGB first")
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
    except ValueError as err:
        raise UnreadableMediaError(f"JPEG of {len(data)} bytes can't be decoded: {str(err).rstrip('.')}") from err


def encode_jpeg(image: Image, quality: int) -> bytes:
    """Encode an RGB image with 4:2:0 chroma.

    Args:
        image: (H, W, 3) uint8 RGB; any strides.
        quality: 1 (small) .. 100 (best).

    Returns:
        The file's bytes.

    Raises:
        ValueError: wrong shape or dtype, an empty image, or a quality out of range.
    """
    check_array("encode_jpeg.image", image, (None, None, 3), np.uint8)
    if not 1 <= quality <= 100:
        raise ValueError(f"encode_jpeg.quality: expected 1..100, got {quality}")
    if image.size == 0:
        raise ValueError(f"encode_jpeg.image: expected at least one pixel, got {image.shape[1]}x{image.shape[0]}")
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420"))
