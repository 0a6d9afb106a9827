"""Frames with real faces for benchmarks, made from the portraits that ship with the package. Deterministic."""

from importlib import resources

import cv2
import numpy as np

from core.jpeg import decode_jpeg
from core.types import Image

PEOPLE = ("barack-obama-2012", "joe-biden-2010", "grace-hopper")
ENROLLED = ("barack-obama-2009", "joe-biden-2010")
FACE_SHARE = 0.5
"""Height of a pasted portrait over the frame's: faces of about 110 px at 720p."""
WANDER_SHARE = 0.05
NOISE_SIGMA = 4.0  # grey levels, as of an indoor camera


def portrait(name: str, *, folder: str) -> Image:
    """Read a portrait from ``assets/people/<folder>``."""
    return decode_jpeg(resources.files("cli").joinpath(f"assets/people/{folder}/{name}.jpg").read_bytes())


def gallery() -> dict[str, Image]:
    """Return the enrolment portraits by person."""
    return {name: portrait(name, folder="enrol") for name in ENROLLED}


def frames(height_px: int, width_px: int, count: int) -> list[Image]:
    """Paint frames in which three people stand, each frame a little elsewhere.

    Returns:
        ``count`` arrays (height, width, 3) uint8 RGB.
    """
    rng = np.random.default_rng(7)
    people = [portrait(name, folder="figures") for name in PEOPLE]
    wall = np.linspace(90, 160, width_px, dtype=np.float32)[None, :, None]
    room = (wall + rng.normal(0, NOISE_SIGMA, (height_px, width_px, 3))).astype(np.uint8)
    return [_frame(people, room, rng) for _ in range(count)]


def _frame(people: list[Image], room: Image, rng: np.random.Generator) -> Image:
    height_px, width_px = room.shape[:2]
    frame = np.roll(room, int(rng.integers(height_px)), axis=0)
    wander = round(WANDER_SHARE * height_px)
    for i, person in enumerate(people):
        factor = FACE_SHARE * height_px / person.shape[0]
        small = cv2.resize(person, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        y = height_px - small.shape[0] - wander + int(rng.integers(-wander, wander + 1))
        x = round((i + 0.5) * width_px / len(people) - small.shape[1] / 2) + int(rng.integers(-wander, wander + 1))
        frame[y : y + small.shape[0], x : x + small.shape[1]] = small
    return frame
