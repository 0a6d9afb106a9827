"""JPEG straight from video planes: no trip through RGB. Pure; thread rule: any thread (OpenCV and libjpeg-turbo release the lock).

JPEG means full-range BT.601 (JFIF), video is mostly limited-range and, from 720 lines up, BT.709. Copied verbatim, faces
would come out grey and with a wrong hue (see docs/ingest.md for the error in levels), so the planes are corrected: one
affine map per plane, chroma at its own quarter resolution. That costs about a tenth of the encoding, ten times less than
swscale's way through RGB.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import simplejpeg

from core.types import U8, check_array

Matrix = Literal["bt601", "bt709"]
LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
"""Kr and Kb. Source: Rec. ITU-R BT.601-7 and BT.709-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planes:
    """One picture in Y'CbCr 4:2:0. Views with any strides; valid while the object that made them lives (they keep it alive)."""

    y: U8
    """(H, W) uint8 luma."""
    u: U8
    """(ceil(H/2), ceil(W/2)) uint8 Cb."""
    v: U8
    """Like u: Cr."""
    matrix: Matrix
    full_range: bool
    """0..255, as in JPEG; otherwise 16..235 (luma) and 16..240 (chroma)."""

    def __post_init__(self) -> None:
        check_array("Planes.y", self.y, (None, None), np.uint8)
        half = ((self.y.shape[0] + 1) // 2, (self.y.shape[1] + 1) // 2)
        check_array("Planes.u", self.u, half, np.uint8)
        check_array("Planes.v", self.v, half, np.uint8)


@dataclass(frozen=True, slots=True)
class _Affine:
    """Maps (Y, Cb, Cr), each less its own zero, onto JPEG's; chroma never depends on luma."""

    luma: float
    luma_zero: float
    luma_of_chroma: tuple[float, float]
    cb: tuple[float, float]
    cr: tuple[float, float]


def _rgb_to_ycc(matrix: Matrix) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    red, blue = LUMA_WEIGHTS[matrix]
    luma = np.array([red, 1.0 - red - blue, blue])
    cb = (np.array([0.0, 0.0, 1.0]) - luma) / (2.0 * (1.0 - blue))
    cr = (np.array([1.0, 0.0, 0.0]) - luma) / (2.0 * (1.0 - red))
    return np.array([luma, cb, cr])


@lru_cache(maxsize=4)
def _to_jfif(matrix: Matrix, full_range: bool) -> _Affine | None:
    """Return the map, or None when the planes are JPEG's already."""
    if matrix == "bt601" and full_range:
        return None
    change = _rgb_to_ycc("bt601") @ np.linalg.inv(_rgb_to_ycc(matrix))
    luma, chroma = (1.0, 1.0) if full_range else (255.0 / 219.0, 255.0 / 224.0)
    change = change * np.array([luma, chroma, chroma])
    return _Affine(
        luma=float(change[0, 0]),
        luma_zero=0.0 if full_range else 16.0,
        luma_of_chroma=(float(change[0, 1]), float(change[0, 2])),
        cb=(float(change[1, 1]), float(change[1, 2])),
        cr=(float(change[2, 1]), float(change[2, 2])),
    )


def encode_planes(planes: Planes, quality: int) -> bytes:
    """Encode a picture as a 4:2:0 JPEG whose decoded RGB is right.

    Args:
        planes: the picture; odd sizes and any strides are fine.
        quality: 1 (small) .. 100 (best).

    Returns:
        The file's bytes.

    Raises:
        ValueError: a quality out of range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"encode_planes.quality: expected 1..100, got {quality}")
    y, u, v = jfif_planes(planes)
    return bytes(simplejpeg.encode_jpeg_yuv_planes(_even(y), u, v, quality))


def _even(y: U8) -> U8:
    """Return the luma with memory behind an odd last row or column.

    libjpeg-turbo reads the luma of 4:2:0 planes up to an even size; without this it reads (and encodes) what lies behind.
    """
    height, width = y.shape
    if not (height % 2 or width % 2):
        return y
    return np.asarray(cv2.copyMakeBorder(y, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)[:height, :width]


def jfif_planes(planes: Planes) -> tuple[U8, U8, U8]:
    """Return (Y, Cb, Cr) as JPEG means them: full range, BT.601; contiguous rows."""
    affine = _to_jfif(planes.matrix, planes.full_range)
    y, u, v = _rows(planes.y), _rows(planes.u), _rows(planes.v)
    if affine is None:
        return y, u, v
    cb = _mix(u, affine.cb[0], v, affine.cb[1], _centred(affine.cb))
    cr = _mix(u, affine.cr[0], v, affine.cr[1], _centred(affine.cr))
    if planes.matrix == "bt601":
        return _mix(y, affine.luma, y, 0.0, -affine.luma * affine.luma_zero), cb, cr
    tint = _mix(u, affine.luma_of_chroma[0], v, affine.luma_of_chroma[1], _centred(affine.luma_of_chroma))
    return _luma(y, affine, tint), cb, cr


def _centred(shares: tuple[float, float]) -> float:
    """Return the offset that keeps 128, chroma's zero, where it is."""
    return 128.0 - 128.0 * sum(shares)


def _luma(y: U8, affine: _Affine, tint: U8) -> U8:
    """Return the luma with what the change of matrix moves into it from chroma (``tint``: half size, 128 = nothing)."""
    height, width = y.shape
    twice = np.multiply(tint, np.uint16(257), dtype=np.uint16).view(np.uint8)[:, :width]  # each value twice in a row
    result: U8 = np.empty((height, width), np.uint8)
    for phase in (0, 1):
        rows = y[phase::2]
        if len(rows):
            cv2.addWeighted(rows, affine.luma, twice[: len(rows)], 1.0, -affine.luma * affine.luma_zero - 128.0, dst=result[phase::2])
    return result


def _mix(a: U8, share_a: float, b: U8, share_b: float, offset: float) -> U8:
    """Return a weighted sum, rounded and clipped to 0..255."""
    return np.asarray(cv2.addWeighted(a, share_a, b, share_b, offset), np.uint8)


def _rows(plane: U8) -> U8:
    """Return the plane with pixels side by side in memory (rows may be padded): what OpenCV and libjpeg take without a copy."""
    return plane if plane.strides[1] == 1 and plane.strides[0] >= plane.shape[1] else np.ascontiguousarray(plane)
