"""Faces to calibrate the int8 model on: photographs in registry packages, cut out and varied, the same at every build.

The landmarks were found once with CenterFace and are recorded here, so that the build does not depend on a detector. The
pictures are only measured (ranges of activations); none is shipped. Five photographs, varied, gave a closer int8 model on 197
other faces (mean cosine with float32 0.99957) than a hundred small blurred faces added to them (0.99924).
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from core.types import U8, Image

SIDE_PX = 150
TEMPLATE = ((48.429, 45.748), (102.872, 46.242), (75.663, 78.365), (51.209, 102.602), (96.802, 102.826))
"""Where the five landmarks lie in dlib's 150 px chip (fitted to dlib's own chips for CenterFace's landmarks)."""
SAMPLES_PER_PX = 3
"""Each chip pixel averages this many samples in either direction, which is enough for the 2.6-fold shrinking of the largest face."""

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph inside a package, with the five landmarks of its face in pixels."""

    member: str
    landmarks: Points


FACE_RECOGNITION_PHOTOS = (
    Photo("biden.jpg", ((530.4, 317.7), (663.0, 338.2), (593.9, 406.6), (514.3, 459.7), (626.7, 476.5))),
    Photo("obama.jpg", ((435.4, 214.4), (560.5, 209.2), (501.8, 273.3), (442.4, 334.9), (550.8, 330.3))),
    Photo("obama2.jpg", ((252.4, 374.4), (376.1, 385.2), (284.8, 452.9), (249.1, 521.9), (354.4, 529.1))),
    Photo("obama3.jpg", ((734.7, 381.4), (869.5, 386.8), (809.0, 451.5), (734.8, 511.6), (848.6, 516.3))),
)
"""Official portraits (works of the United States government, public domain) in the tests of the face_recognition source package."""
ASTRONAUT = Photo("astronaut.png", ((203.2, 101.7), (247.0, 104.5), (223.3, 125.1), (203.4, 142.3), (241.3, 144.4)))
"""Eileen Collins (NASA, public domain) in scikit-image."""


def photo_chips(data: bytes, photo: Photo) -> U8:
    """Return the chip of a photograph and its variations, (N, 150, 150, 3) uint8 RGB."""
    with PillowImage.open(io.BytesIO(data)) as picture:
        image = np.asarray(picture.convert("RGB"))
    return np.stack(list(variations(cut_chip(image, photo.landmarks))))


def cut_chip(image: Image, landmarks: Points) -> U8:
    """Cut out and turn upright the face with these landmarks; (150, 150, 3) uint8."""
    target, source = (np.array([complex(x, y) for x, y in points]) for points in (TEMPLATE, landmarks))
    target_mean, source_mean = target.mean(), source.mean()
    turn = ((target - target_mean).conj() * (source - source_mean)).sum() / (np.abs(target - target_mean) ** 2).sum()
    steps = (np.arange(SIDE_PX * SAMPLES_PER_PX) + 0.5) / SAMPLES_PER_PX - 0.5
    grid = steps[None, :] + 1j * steps[:, None]
    where = (grid - target_mean) * turn + source_mean
    samples = _sample(image.astype(np.float64), where.real, where.imag)
    blocks = samples.reshape(SIDE_PX, SAMPLES_PER_PX, SIDE_PX, SAMPLES_PER_PX, 3)
    chip: U8 = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return chip


def _sample(image: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read an image between its pixels, bilinearly; outside it the border pixels go on."""
    height, width = image.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - fx) + image[top, left + 1] * fx
    lower = image[top + 1, left] * (1 - fx) + image[top + 1, left + 1] * fx
    between: NDArray[np.float64] = upper * (1 - fy) + lower * fy
    return between


def variations(chip: U8) -> Iterator[U8]:
    """Yield a chip as cameras see it: as it is, dark, bright, flat, grey and blurred; each also mirrored."""
    unit = chip / 255.0
    grey = np.repeat(unit.mean(axis=2, keepdims=True), 3, axis=2)
    coarse = unit[::4, ::4].repeat(4, axis=0).repeat(4, axis=1)[: chip.shape[0], : chip.shape[1]]
    for varied in (unit, unit**2.0, unit**0.5, 0.35 + 0.3 * unit, grey, coarse):
        made = np.rint(varied * 255).astype(np.uint8)
        yield made
        yield np.ascontiguousarray(made[:, ::-1])
