"""Alignment: five landmarks decide how a face is turned, scaled and moved onto the embedder's template. Pure."""

import numpy as np
from numpy.typing import NDArray

from core.types import F32, U8, Image
from core.warp import cut

ARCFACE: F32 = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32)
LOOSE = 1.05  # how much more than the template a loose chip shows

TEMPLATES: dict[str, tuple[int, F32]] = {
    "arcface112": (112, ARCFACE),
    "arcface112_loose": (112, ((ARCFACE - ARCFACE.mean(axis=0)) / np.float32(LOOSE) + ARCFACE.mean(axis=0)).astype(np.float32)),
    "dlib150": (
        150,
        np.array([[48.429, 45.748], [102.872, 46.242], [75.663, 78.365], [51.209, 102.602], [96.802, 102.826]], np.float32),
    ),
}
"""Chip side in px, and where the five landmarks belong on it.

arcface112_loose is for fr_feature: with 5 % more around the face, blurred and small faces are told apart better (57 px faces of a film
against a portrait .39 -> .42; 200 ORL faces identified, mean over the enrolled photo, 88 % -> 89 %), the most alike of 63 press photos of
13 people are less alike (.477 -> .467); sharp pairs lose a little (d' 7.85 -> 7.68). 10 % costs those more.

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
