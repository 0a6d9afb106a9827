"""Alignment: five landmarks decide how a face is turned, scaled and moved onto the embedder's template, in one view or several. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.types import F32, U8, Image
from core.warp import cut


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One way to cut a chip of the same face."""

    reach: float = 1.0
    """How much more of the face's surroundings the chip shows than the template, 1.05 = 5 % more."""
    mirrored: bool = False
    """Left and right exchanged after cutting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Where a model wants a face on its chip, and in which views it sees it best."""

    side_px: int
    points: F32
    """(5, 2) float32: where the five landmarks belong, pixels of the chip."""
    shot: View = View()
    """Of a face in a video frame, whose track averages several frames."""
    photo: tuple[View, ...] = (View(),)
    """Of a face in a photo: the embeddings of these views are averaged."""
    clear: tuple[View, ...] = (View(),)
    """Of a large, sharp face in a photo that is searched for: as good as ``photo``, for less.

    64 press photos, all of them clear, searched for among references of four views, fr_feature, by one view and by four: one person .788
    (.791), two people .026 (.023), the most alike .356 (.342), d' 8.06 (8.02); cosine of the one view to the mean of four .989 (.980).
    """


ARCFACE: F32 = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32)
DLIB: F32 = np.array([[48.429, 45.748], [102.872, 46.242], [75.663, 78.365], [51.209, 102.602], [96.802, 102.826]], np.float32)
FOUR_VIEWS = (View(), View(mirrored=True), View(reach=1.1), View(reach=1.1, mirrored=True))
"""Measured against the one chip of a shot.

fr_feature: ten people of ORL enrolled with one picture each, identified at a false-positive rate of 1 %, mean over which of ten pictures is
enrolled and over five borders, .893 -> .912 (enrolled people and strangers exchanged .928 -> .936; pictures of 23 x 28 px as they are
.868 -> .912 and .880 -> .903); d' of 300 press photo pairs 7.9 -> 8.0; most alike strangers among 63 press photos .467 -> .480, where the
calibrated threshold goes .475 -> .484. Mirrored alone .902 and .927, wider alone .903 and .938, a third reach .910 and .934.
dlib_resnet_int8: .716 -> .738 (exchanged .714 -> .763); press photos found at the calibrated threshold of each, 42 and 49 of 63.
The price is four runs of the model a face; a track averages several frames anyway, so shots do without.
"""

TEMPLATES: dict[str, Template] = {
    "arcface112": Template(side_px=112, points=ARCFACE),
    "arcface112_loose": Template(side_px=112, points=ARCFACE, shot=View(reach=1.05), photo=FOUR_VIEWS),
    "dlib150": Template(side_px=150, points=DLIB, photo=FOUR_VIEWS, clear=FOUR_VIEWS),
}
"""By the name that a model's registry entry gives.

arcface112_loose is for fr_feature: with 5 % more around the face, blurred and small faces are told apart better by a single chip (57 px
faces of a film against a portrait .39 -> .42; 200 ORL faces identified, mean over the enrolled photo, 88 % -> 89 %), the most alike of 63
press photos of 13 people are less alike (.477 -> .467); sharp pairs lose a little (d' 8.1 -> 7.9), with 10 % more (7.5). What models of
plain arcface112 would gain from more views is not measured, so they get one.

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


def cut_chips(image: Image, landmarks: F32, template: Template, view: View) -> U8:
    """Cut the aligned chip of each face.

    A face that shrinks by more than two is cut out and halved first: no aliasing, and a face in a 4K picture costs no more than
    its own pixels.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (N, 5, 2) float32 in the image's pixels.
        template: of the model that looks at the chips.
        view: how much the chips show, and whether mirrored.

    Returns:
        (N, side, side, 3) uint8 RGB; black where the face sticks out of the picture.
    """
    centre = template.points.mean(axis=0)
    points = ((template.points - centre) / np.float32(view.reach) + centre).astype(np.float32)
    chips = np.empty((len(landmarks), template.side_px, template.side_px, 3), np.uint8)
    for chip, matrix in zip(chips, similarity(landmarks, points), strict=True):
        piece = cut(image, matrix, template.side_px)
        chip[...] = piece[:, ::-1] if view.mirrored else piece
    return chips
