"""Alignment: five landmarks decide how a face is turned, scaled and moved onto the embedder's template. Pure."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from core.shrink import halve
from core.types import F32, U8, Image

TEMPLATES: dict[str, tuple[int, F32]] = {
    "arcface112": (
        112,
        np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32),
    ),
    "dlib150": (
        150,
        np.array([[48.429, 45.748], [102.872, 46.242], [75.663, 78.365], [51.209, 102.602], [96.802, 102.826]], np.float32),
    ),
}
"""Chip side in px, and where the five landmarks belong on it.

Sources: arcface112 from github.com/deepinsight/insightface (MIT); dlib150 fitted so that five-point landmarks reproduce the chip that dlib
itself cuts from its own landmarks.
"""


def similarity(landmarks: F32, template: F32) -> NDArray[np.float64]:
    """Return the similarities (rotation, scale, translation, no reflection) that bring landmarks nearest to a template.

    In the plane, with points as complex numbers, the least-squares similarity is q = a p + b with a = <p, q> / <p, p> about the centroids.

    Args:
        landmarks: (N, 5, 2) float32, pixels of the source.
        template: (5, 2) float32, pixels of the chip.

    Returns:
        (N, 2, 3) float64, source to chip. Landmarks that all fall on one point give the zero matrix in its first two columns.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    p = landmarks[..., 0].astype(np.float64) + 1j * landmarks[..., 1]
    q = template[:, 0].astype(np.float64) + 1j * template[:, 1]
    p_mean, q_mean = p.mean(axis=1, keepdims=True), q.mean()
    spread = (np.abs(p - p_mean) ** 2).sum(axis=1)
    a = (np.conj(p - p_mean) * (q - q_mean)).sum(axis=1) / np.where(spread > 0, spread, 1)
    b = q_mean - a * p_mean[:, 0]
    return np.stack([np.stack([a.real, -a.imag, b.real], axis=1), np.stack([a.imag, a.real, b.imag], axis=1)], axis=1)


def cut_chips(image: Image, landmarks: F32, template: str) -> U8:
    """Cut the aligned chip of each face.

    A face that shrinks by more than two is cut out and halved first: no aliasing, and a face in a 4K picture costs no more than
    its own pixels.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (N, 5, 2) float32 in the image's pixels.
        template: ``arcface112`` or ``dlib150``.

    Returns:
        (N, side, side, 3) uint8 RGB; black where the face sticks out of the picture.

    Raises:
        KeyError: unknown template.
    """
    side, points = TEMPLATES[template]
    chips = np.empty((len(landmarks), side, side, 3), np.uint8)
    for chip, matrix in zip(chips, similarity(landmarks, points), strict=True):
        chip[...] = cut(image, matrix, side)
    return chips


def cut(image: Image, matrix: NDArray[np.float64], side: int) -> U8:
    """Warp one chip; ``matrix`` (2, 3) leads from source to chip pixels."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if 0 < scale < 0.5:
        image, matrix = cut_out(image, matrix, side, scale)
        while scale < 0.5 and min(image.shape[:2]) >= 2:
            image, scale = halve(image), scale * 2
            # chip = A (2 x' + 1/2) + b, for pixel centres at integers
            matrix = np.column_stack([matrix[:, :2] * 2, matrix[:, 2] + matrix[:, :2].sum(axis=1) / 2])
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore[return-value]


def cut_out(image: Image, matrix: NDArray[np.float64], side: int, scale: float) -> tuple[Image, NDArray[np.float64]]:
    """Return the part of the picture that the chip shows, and the matrix from that part to the chip."""
    (a, _, shift_x), (b, _, shift_y) = matrix.tolist()
    reach = (abs(a) + abs(b)) / scale**2 * side / 2 + 2 / scale  # half the turned chip, and what bilinear sampling after halving reaches
    dx, dy = side / 2 - shift_x, side / 2 - shift_y
    centre_x, centre_y = (a * dx + b * dy) / scale**2, (a * dy - b * dx) / scale**2
    height, width = image.shape[:2]
    x1 = min(max(math.floor(centre_x - reach), 0), width - 1)
    y1 = min(max(math.floor(centre_y - reach), 0), height - 1)
    x2 = min(max(math.ceil(centre_x + reach), x1 + 1), width)
    y2 = min(max(math.ceil(centre_y + reach), y1 + 1), height)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.array([x1, y1], np.float64)
    return image[y1:y2, x1:x2], moved
