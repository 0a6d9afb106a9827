"""Quality: how far a face can be trusted for recognition, 0..1, and what is wrong with it in words people can act on. Pure.

Each aspect turns one measurement into the share of the genuine score that is left, as measured: 31 faces of press photos at 200 px,
degraded in 49 ways, scored with fr_feature against other photos of the same person (.79 undegraded). The value is the smallest share.
On these 1514 faces (the curves were read off them) the rank correlation of value and genuine score is .83, of the embedder's norm and
genuine score .70; faces that miss the threshold .274 (false-match rate 1 %): 99 % of those below .1, 82 % between .1 and .3, 42 % up to
.5, 5 % up to .7, 1 % of the others.

Measured with CenterFace's landmarks and scores. Not measured, and so not claimed: yaw beyond a nose offset of .25, real masks (only painted
ones), sunglasses (not recognised: they change neither the detector's score nor the texture reliably).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.types import F32, U8, Faces, Image, Quality
from core.warp import cut
from embed.align import TEMPLATES, similarity

CHIP_PX = 64
"""Side of the grey chip on which light and sharpness are measured: a face of 57 px fills it, and larger ones are
not sharper for their size."""
INNER = (slice(14, 58), slice(12, 52))
"""Rows and columns of the chip from brow to chin, without hair and background."""
INNER_GRID = np.stack(np.meshgrid(np.linspace(12, 52, 9), np.linspace(14, 58, 9)), axis=-1).reshape(1, -1, 2)
"""Points (x, y) spread over the inner face."""
NOISE_FLOOR = 25.0
"""Added to the grey variance (grey levels squared), so that sensor noise on a flat face is no sharpness."""
SATURATED = 250
SECOND_DIFFERENCE: F32 = np.array([[1, -2, 1]], np.float32)

Curve = tuple[tuple[float, ...], tuple[float, ...]]
"""Measured values, ascending, and the share of the genuine score left at each; linear between, constant beyond."""

HEIGHT_PX: Curve = ((10, 16, 24, 32, 48, 64, 112), (0.0, 0.29, 0.6, 0.8, 0.95, 0.98, 1.0))
"""Box height. Genuine scores: 12 px .11, 16 px .23, 24 px .49, 32 px .63, 48 px .76, 64 px .78, 112 px .79."""
SHARPNESS: Curve = ((-2.7, -2.5, -2.3, -1.9, -1.6, -1.3, -1.0), (0.1, 0.18, 0.35, 0.7, 0.87, 0.96, 1.0))
"""log10 of the weaker axis' second-difference variance over the grey variance. Gaussian blur of 2, 4, 8 % of the face's height: .70, .32
.. .16 of genuine score; the weaker axis because motion blurs one only (Laplacian: .20 for a face of score .24)."""
BRIGHTNESS: Curve = ((4, 9, 18, 38, 75), (0.07, 0.4, 0.82, 0.93, 1.0))
"""Mean grey level: 4 .05, 9 .31, 18 .65, 38 .73."""
SATURATION: Curve = ((0.15, 0.32, 0.72, 0.9, 0.95), (1.0, 0.92, 0.6, 0.25, 0.08))
"""Share of pixels at 250 or above: .32 .71, .72 .48, .9 .19, .95 .06."""
CONTRAST: Curve = ((0.02, 0.04, 0.08, 0.15), (0.07, 0.65, 0.91, 1.0))
"""Grey standard deviation over mean: .02 .05, .04 .52, .08 .72 (fog; a dark picture keeps its ratio)."""
YAW: Curve = ((0.2, 0.3, 0.45, 0.7), (1.0, 0.75, 0.5, 0.2))
"""Nose's distance from the line mid-eyes to mid-mouth, in eye distances. 200 ORL faces: no loss to .2, .72 at .25; beyond by geometry."""
PITCH_UP: Curve = ((0.25, 0.4, 0.47, 0.52), (0.3, 0.7, 0.9, 1.0))
"""Nose's place between eye line (0) and mouth (1), .57 when frontal; smaller = looking up. ORL: .85 at .47."""
ROLL_DEG: Curve = ((45, 60, 90), (1.0, 0.9, 0.67))
"""Turn of the eye line: 30 degrees .77, 60 .72, 90 .53 (the detector's landmarks suffer, not the alignment)."""
COVERAGE: Curve = ((0.4, 0.6, 0.8, 0.95), (0.3, 0.65, 0.9, 1.0))
"""Share of the inner face that lies in the picture: cut at the image-left eye .72, at the nose .51."""
SCORE: Curve = ((0.5, 0.75, 0.88), (0.4, 0.7, 1.0))
"""Detector's score: painted masks .72 to .78 with .51 to .67 left, half-covered faces .72 with .44."""

OCCLUDED_SCORE = 0.82
OCCLUDED_PITCH = 0.64
"""A covered mouth lowers the score, and the mouth's landmarks move up to the nose: both together find 76 % of painted masks and none of the
other degradations."""
OCCLUDED_SHARE = 0.65

NAMED_BELOW = 0.7
"""An aspect is named as a reason when its share is less: about where one genuine photo in twenty misses the threshold."""
NAMED_SIZE_BELOW = 0.8
"""As above, for size: 32 px."""

DESCRIPTIONS = {
    "too_small": "The face is too small: come closer, zoom in, or use a photo in which it is at least 48 pixels high.",
    "blurred": "The face is blurred: hold still, focus, use a shorter exposure, or choose a sharper photo.",
    "too_dark": "The face is too dark: add light from the front, or choose a brighter photo.",
    "too_bright": "The face is overexposed: reduce the light or the exposure.",
    "low_contrast": "The face is pale as in fog: clean the lens, avoid light into the camera, or choose another photo.",
    "extreme_pose": "The face is turned too far: look towards the camera.",
    "occluded": "Part of the face seems to be covered, perhaps by a mask or a hand: uncover it.",
    "cut_off": "The face is cut off by the edge of the picture: leave some space around it.",
    "low_detector_score": "It is hardly recognisable as a face: choose a clearer photo.",
}


@dataclass(frozen=True, slots=True)
class Pose:
    """Three numbers from five landmarks, for N faces; see YAW, PITCH_UP and ROLL_DEG for units."""

    yaw: F32
    pitch: F32
    roll_deg: F32


def describe(reason: str) -> str:
    """Return one line for people that says what is wrong and how to mend it.

    Raises:
        KeyError: not one of the reasons of ``core.types.Quality``.
    """
    return DESCRIPTIONS[reason]


def assess(image: Image, faces: Faces) -> list[Quality]:
    """Judge each face of a picture: 0.2 to 0.3 ms per face on one core.

    Args:
        image: (H, W, 3) uint8 RGB, in which the faces were found.
        faces: The faces, in the image's pixels.

    Returns:
        One quality per face: the smallest share of all aspects, and the named ones, worst first.
    """
    if not len(faces):
        return []
    template = TEMPLATES["arcface112"]
    matrices = similarity(faces.landmarks, template.points * np.float32(CHIP_PX / template.side_px))
    pose = pose_of(faces.landmarks)
    geometry = {
        "too_small": share(HEIGHT_PX, faces.boxes[:, 3] - faces.boxes[:, 1]),
        "extreme_pose": np.minimum.reduce([share(YAW, pose.yaw), share(PITCH_UP, pose.pitch), share(ROLL_DEG, pose.roll_deg)]),
        "cut_off": share(COVERAGE, coverage(matrices, image.shape[0], image.shape[1])),
        "low_detector_score": share(SCORE, faces.scores),
        "occluded": np.where((faces.scores < OCCLUDED_SCORE) & (pose.pitch > OCCLUDED_PITCH), OCCLUDED_SHARE, 1.0),
    }
    found: list[Quality] = []
    for i, matrix in enumerate(matrices):
        shares = {reason: float(values[i]) for reason, values in geometry.items()}
        shares |= look(cv2.cvtColor(cut(image, matrix, CHIP_PX), cv2.COLOR_RGB2GRAY))  # type: ignore[arg-type]
        found.append(combine(shares))
    return found


def combine(shares: dict[str, float]) -> Quality:
    """Return the smallest share as value, and the reasons whose share is low, worst first."""
    limits = {"too_small": NAMED_SIZE_BELOW}
    named = [reason for reason, value in shares.items() if value < limits.get(reason, NAMED_BELOW)]
    return Quality(value=min(shares.values()), reasons=tuple(sorted(named, key=lambda reason: shares[reason])))


def look(grey: U8) -> dict[str, float]:
    """Judge light and sharpness of one chip.

    Args:
        grey: (64, 64) uint8, aligned.
    """
    inner = grey[INNER].astype(np.float32)
    mean, deviation = mean_and_deviation(inner)
    saturated = np.count_nonzero(inner >= SATURATED) / inner.size
    return {
        "blurred": float(share(SHARPNESS, math.log10(sharpness(inner, deviation) + 1e-9))),
        "too_dark": float(share(BRIGHTNESS, mean)),
        "too_bright": float(share(SATURATION, saturated)),
        "low_contrast": float(share(CONTRAST, deviation / max(mean, 1.0))),
    }


def sharpness(inner: F32, deviation: float) -> float:
    """Return the variance of second differences along the blurrier axis, as a part of the grey variance."""
    across = mean_and_deviation(cv2.filter2D(inner, cv2.CV_32F, SECOND_DIFFERENCE)[:, 1:-1])[1]
    down = mean_and_deviation(cv2.filter2D(inner, cv2.CV_32F, SECOND_DIFFERENCE.T)[1:-1])[1]
    return min(across, down) ** 2 / (deviation**2 + NOISE_FLOOR)


def mean_and_deviation(grey: NDArray[Any]) -> tuple[float, float]:
    """Return mean and standard deviation; OpenCV takes 2 us for a chip where NumPy takes 40."""
    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]), float(deviation[0, 0])


def pose_of(landmarks: F32) -> Pose:
    """Measure how (N, 5, 2) landmarks are turned; roll does not disturb yaw and pitch."""
    eyes = landmarks[:, 1] - landmarks[:, 0]
    middle = landmarks[:, :2].mean(axis=1)
    axis = landmarks[:, 3:].mean(axis=1) - middle
    nose = landmarks[:, 2] - middle
    length = np.maximum(np.hypot(axis[:, 0], axis[:, 1]), 1e-6)
    eye_distance = np.maximum(np.hypot(eyes[:, 0], eyes[:, 1]), 1e-6)
    return Pose(
        yaw=np.abs(nose[:, 0] * axis[:, 1] - nose[:, 1] * axis[:, 0]) / (length * eye_distance),
        pitch=(nose * axis).sum(axis=1) / length**2,
        roll_deg=np.abs(np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))),
    )


def coverage(matrices: NDArray[np.float64], height_px: int, width_px: int) -> NDArray[np.float64]:
    """Return which share of each inner face lies in the picture, from (N, 2, 3) source-to-chip matrices; 0 when there is no way back."""
    a, b = matrices[:, 0, 0, None], matrices[:, 1, 0, None]
    scale = np.maximum(a * a + b * b, 1e-12)
    offset = INNER_GRID - matrices[:, None, :, 2]
    x = (a * offset[..., 0] + b * offset[..., 1]) / scale
    y = (a * offset[..., 1] - b * offset[..., 0]) / scale
    inside: NDArray[np.bool_] = (x >= -0.5) & (y >= -0.5) & (x <= width_px - 0.5) & (y <= height_px - 0.5)
    return np.asarray(inside.mean(axis=1))


def share(curve: Curve, measured: float | Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Read a curve."""
    return np.asarray(np.interp(measured, *curve), np.float64)
