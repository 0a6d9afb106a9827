"""Painted rooms for the demo's cameras: a lobby and a gate, drawn in one-point perspective. Pure and deterministic."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from cli.demo.script import HEIGHT_PX, WIDTH_PX
from core.types import F32, Image

Colour = tuple[int, int, int]
Point = tuple[float, float, float]
"""Metres: x to the right of the camera, y above the floor, z ahead."""

FOCAL_PX = 1180.0  # a face of 0.22 m, 2 m away, is 130 px high
EYE_M = 1.65  # height of the camera
HORIZON_PX = 350.0
COUNTER_PX = 636  # people stand behind a counter, so a cut-out never shows where its photo ends
SUBPIXEL_BITS = 4


@dataclass(slots=True, kw_only=True)
class _Canvas:
    pixels: Image = field(default_factory=lambda: np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8))

    def quad(self, colour: Colour, *corners: Point) -> None:
        """Fill a polygon given by points in space."""
        flat = [(WIDTH_PX / 2 + FOCAL_PX * x / z, HORIZON_PX - FOCAL_PX * (y - EYE_M) / z) for x, y, z in corners]
        points = np.round(np.array(flat) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(self.pixels, [points], colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def wall(self, colour: Colour, left: float, right: float, low: float, high: float, z: float) -> None:
        """Fill a rectangle that faces the camera."""
        self.quad(colour, (left, low, z), (right, low, z), (right, high, z), (left, high, z))

    def flat(self, colour: Colour, left: float, right: float, y: float, near: float, far: float) -> None:
        """Fill a rectangle parallel to the floor."""
        self.quad(colour, (left, y, near), (right, y, near), (right, y, far), (left, y, far))

    def side(self, colour: Colour, x: float, low: float, high: float, near: float, far: float) -> None:
        """Fill a rectangle on a side wall."""
        self.quad(colour, (x, low, near), (x, low, far), (x, high, far), (x, high, near))

    def box(self, front: Colour, top: Colour, left: float, right: float, high: float, near: float, far: float) -> None:
        """Draw a box that stands on the floor."""
        shade: Colour = (int(front[0] * 0.8), int(front[1] * 0.8), int(front[2] * 0.8))
        self.side(shade, right if right < 0 else left, 0, high, near, far)
        self.flat(top, left, right, high, near, far)
        self.wall(front, left, right, 0, high, near)


def lobby() -> Image:
    """Return the lobby: a warm room with glass doors, a desk and plants. (720, 1280, 3) uint8 RGB."""
    canvas = _Canvas()
    half, high, far = 4.6, 3.3, 12.5
    canvas.wall((222, 214, 200), -half, half, 0, high, far)
    canvas.flat((150, 138, 124), -half, half, 0, 2.5, far)
    for row in range(10):
        for column in range(-5, 5):
            if (row + column) % 2:
                canvas.flat((160, 148, 134), column * 0.92, (column + 1) * 0.92, 0, 2.5 + row, 3.5 + row)
    canvas.flat((236, 234, 229), -half, half, high, 2.5, far)
    canvas.side((196, 184, 166), -half, 0, high, 2.5, far)
    canvas.side((206, 197, 182), half, 0, high, 2.5, far)
    for index in range(5):
        canvas.side((141, 106, 76), -half + 0.01, 0.1, high - 0.25, 4 + index * 1.8, 5.5 + index * 1.8)
    for index in range(3):
        canvas.side((176, 201, 219), half - 0.01, 0.9, high - 0.4, 4.5 + index * 2.8, 6.7 + index * 2.8)
    for z in (4.0, 6.5, 9.0, 11.2):
        for x in (-2.2, 0.8):
            canvas.flat((255, 253, 246), x, x + 1.4, high - 0.01, z, z + 0.8)
    _glass_doors(canvas, far)
    canvas.wall((88, 103, 122), -3.3, -1.9, 1.35, 2.3, far - 0.01)
    canvas.wall((197, 168, 120), -3.15, -2.05, 1.5, 2.15, far - 0.02)
    canvas.box((120, 88, 62), (176, 142, 108), -3.9, -1.7, 1.1, 8.2, 9.4)
    canvas.box((98, 92, 88), (128, 120, 114), 3.1, 3.6, 0.6, 9.5, 10.0)
    picture = canvas.pixels
    _plant(picture, centre=(960, 415), radius_px=52)
    return _finished(picture, light=(0.46, 0.28), seed=11, counter=((92, 66, 46), (138, 104, 76)))


def gate() -> Image:
    """Return the gate: a cool corridor with turnstiles and a lit exit. (720, 1280, 3) uint8 RGB."""
    canvas = _Canvas()
    half, high, far = 2.7, 2.9, 17.0
    canvas.wall((150, 158, 166), -half, half, 0, high, far)
    canvas.flat((92, 97, 102), -half, half, 0, 2.2, far)
    for index in range(8):
        canvas.flat((102, 107, 112), -half, half, 0, 2.4 + index * 1.9, 3.3 + index * 1.9)
    canvas.flat((206, 210, 213), -half, half, high, 2.2, far)
    canvas.side((164, 171, 177), -half, 0, high, 2.2, far)
    canvas.side((174, 181, 186), half, 0, high, 2.2, far)
    for x in (-half + 0.01, half - 0.01):
        canvas.side((54, 92, 128), x, 1.0, 1.22, 2.2, far)
        for index in range(4):
            canvas.side((134, 142, 150), x, 0.0, 2.1, 4.6 + index * 3.1, 5.6 + index * 3.1)
    for index in range(6):
        canvas.flat((250, 253, 255), -0.5, 0.5, high - 0.01, 3.0 + index * 2.4, 4.4 + index * 2.4)
    canvas.wall((70, 78, 86), -1.3, 1.3, 0, 2.3, far - 0.02)
    canvas.wall((214, 228, 236), -1.2, -0.03, 0, 2.2, far - 0.03)
    canvas.wall((222, 234, 240), 0.03, 1.2, 0, 2.2, far - 0.03)
    canvas.wall((38, 128, 84), -0.45, 0.45, 2.42, 2.68, far - 0.03)
    for x, lamp in ((-1.75, (72, 190, 110)), (-0.6, (72, 190, 110)), (0.55, (206, 74, 66)), (1.6, (72, 190, 110))):
        canvas.box((66, 72, 79), (112, 119, 126), x, x + 0.24, 1.02, 7.6, 9.2)
        canvas.wall(lamp, x + 0.07, x + 0.17, 0.82, 0.9, 7.59)
    canvas.wall((150, 164, 172), -1.5, -0.62, 0.72, 0.76, 8.4)
    canvas.wall((150, 164, 172), -0.34, 0.54, 0.72, 0.76, 8.4)
    return _finished(canvas.pixels, light=(0.5, 0.22), seed=12, counter=((58, 63, 69), (104, 111, 118)))


def _glass_doors(canvas: _Canvas, z: float) -> None:
    canvas.wall((92, 92, 94), -0.9, 2.3, 0, 2.55, z - 0.01)
    for left in (-0.8, 0.74):
        canvas.wall((226, 236, 240), left, left + 1.44, 1.15, 2.45, z - 0.02)
        canvas.wall((176, 190, 176), left, left + 1.44, 0.62, 1.15, z - 0.02)
        canvas.wall((158, 156, 150), left, left + 1.44, 0.05, 0.62, z - 0.02)
    for x in (0.56, 0.9):
        canvas.wall((60, 60, 62), x, x + 0.06, 0.9, 1.5, z - 0.03)


def _plant(picture: Image, *, centre: tuple[int, int], radius_px: int) -> None:
    rng = np.random.default_rng(5)
    x, y = centre
    cv2.fillPoly(picture, [np.array([[x - 20, y + 40], [x + 20, y + 40], [x + 15, y + 92], [x - 15, y + 92]])], (84, 80, 78), cv2.LINE_AA)
    for _ in range(70):
        angle, reach = rng.uniform(-2.9, -0.2), rng.uniform(0.3, 1.0) * radius_px
        tip = (int(x + reach * np.cos(angle)), int(y + 38 + 1.5 * reach * np.sin(angle)))
        shade = rng.uniform(0.7, 1.2)
        cv2.ellipse(
            picture, (tip, (9, 26), float(np.degrees(angle)) + 90), (int(64 * shade), int(106 * shade), int(62 * shade)), -1, cv2.LINE_AA
        )


def _finished(picture: Image, *, light: tuple[float, float], seed: int, counter: tuple[Colour, Colour]) -> Image:
    """Soften the distance, light the room from a point (shares of width and height), stain it a little, add the near counter."""
    soft = cv2.GaussianBlur(picture, (0, 0), 2.0).astype(np.float32)
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)
    away = np.hypot(x / WIDTH_PX - light[0], (y / HEIGHT_PX - light[1]) * 0.8)
    lit = soft * (1.08 - 0.55 * away)[..., None] * _stains(seed)[..., None]
    reflected = cv2.GaussianBlur(np.flipud(lit), (0, 0), 18)
    share = np.clip((y[..., None] - 470) / 160, 0, 1) * 0.16  # a polished floor mirrors the room, the nearer the more
    lit += share * (reflected - lit)
    result: Image = np.clip(lit, 0, 255).astype(np.uint8)
    return _with_counter(result, counter)


def _stains(seed: int) -> F32:
    """Return slow, faint brightness differences around 1: no painted wall is even."""
    coarse = np.random.default_rng(seed).normal(1.0, 0.009, (23, 41)).astype(np.float32)
    fine = np.random.default_rng(seed + 100).normal(0.0, 0.006, (180, 320)).astype(np.float32)
    size = (WIDTH_PX, HEIGHT_PX)
    stains: F32 = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC) + cv2.resize(fine, size, interpolation=cv2.INTER_LINEAR)
    return stains


def _with_counter(picture: Image, colours: tuple[Colour, Colour]) -> Image:
    front, top = (np.array(colour, np.float32) for colour in colours)
    rows = np.arange(HEIGHT_PX - COUNTER_PX, dtype=np.float32)[:, None, None]
    shade = np.where(rows < 16, top * (1 - 0.012 * rows), front * (1 - 0.004 * rows))
    picture[COUNTER_PX:] = np.clip(np.broadcast_to(shade, picture[COUNTER_PX:].shape), 0, 255).astype(np.uint8)
    picture[COUNTER_PX - 8 : COUNTER_PX + 24] = cv2.GaussianBlur(picture[COUNTER_PX - 8 : COUNTER_PX + 24], (0, 0), 2.2)
    return picture
