"""The demo's footage: frames painted from shipped photographs, encoded once and kept. Deterministic: seeded noise, no clock."""

import hashlib
import math
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

from cli.demo import backdrop
from cli.demo.script import DURATION_S, FIGURES, FPS, HEIGHT_PX, LOBBY, WIDTH_PX, CameraScript, Figure, Stop, Visit
from core.jpeg import decode_jpeg
from core.types import U8, Image
from ingest.source import ClipWriter

VERSION = 1  # of the painting: a change makes everybody's footage anew
CRF = 25  # H.264 quality of a usual camera
NOISE_SIGMA = 1.8  # grey levels: a small sensor indoors
NOISE_MARGIN_PX = 96  # the noise field is larger than the picture, and each frame looks at another part of it
DRIFT = 0.02  # slow auto-exposure: +-2 % of brightness
DRIFT_PERIOD_S = 9.0
SWAY_DEG = 1.2  # how far a walker leans from side to side
SHUTTER_SPEED_PX = 12.0  # a walker faster than this per frame is smeared by the shutter


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOut:
    """A figure ready to be painted."""

    figure: Figure
    pixels: Image
    alpha: U8
    """(H, W) uint8, 0 = background."""


def load_cut_out(figure: Figure, gain: tuple[float, float, float], *, mirrored: bool) -> CutOut:
    """Read a figure from the package's assets and put it into the scene's light."""
    folder = resources.files("cli").joinpath("assets/people/figures")
    pixels = decode_jpeg(folder.joinpath(f"{figure.photo}.jpg").read_bytes())
    mask = cv2.imdecode(np.frombuffer(folder.joinpath(f"{figure.photo}.mask.png").read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    lit = np.clip(pixels.astype(np.float32) * np.array(gain, np.float32), 0, 255).astype(np.uint8)
    alpha = np.asarray(mask, np.uint8)
    if not mirrored:
        return CutOut(figure=figure, pixels=lit, alpha=alpha)
    turned = Figure(
        photo=figure.photo,
        face_x_px=lit.shape[1] - 1 - figure.face_x_px,
        face_y_px=figure.face_y_px,
        face_height_px=figure.face_height_px,
    )
    return CutOut(figure=turned, pixels=np.ascontiguousarray(lit[:, ::-1]), alpha=np.ascontiguousarray(alpha[:, ::-1]))


def ensure_footage(
    folder: Path, scripts: Sequence[CameraScript], *, duration_s: float, report: Callable[[float], None] = lambda share: None
) -> dict[str, Path]:
    """Render what is not there yet, the cameras side by side. Blocks for some seconds, once.

    Args:
        folder: where clips are kept; a clip appears whole or not at all.
        scripts: what to show, cut to the duration.
        duration_s: seconds of each clip.
        report: told now and then, from any thread, which share of the work is done.

    Returns:
        The H.264 file of each camera.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {script.camera: folder / f"{script.camera}-{_digest(script, duration_s)}.mp4" for script in scripts}
    missing = [script for script in scripts if not paths[script.camera].exists()]
    total = max(1, len(missing) * round(duration_s * FPS))
    done = [0] * len(missing)
    stop = threading.Event()

    def render(index: int) -> None:
        script = missing[index]
        with ClipWriter(paths[script.camera], fps=round(FPS), crf=CRF) as writer:
            for image in Painter(script, seed=zlib.crc32(script.camera.encode())).frames(duration_s):
                if stop.is_set():
                    raise CancelledError  # the half-made clip goes with the writer
                writer.write(image)
                done[index] += 1
                report(sum(done) / total)

    with ThreadPoolExecutor(max(1, len(missing)), thread_name_prefix="footage") as pool:
        try:
            list(pool.map(render, range(len(missing))))
        except BaseException:  # Ctrl-C too: the other painters stop, for the pool waits for them
            stop.set()
            raise
    return paths


def _digest(script: CameraScript, duration_s: float) -> str:
    return hashlib.sha256(repr((VERSION, CRF, FIGURES, script, duration_s)).encode()).hexdigest()[:12]


class Painter:
    """Paints one camera's frames. Thread rule: one thread per painter."""

    def __init__(self, script: CameraScript, *, seed: int) -> None:
        self._script = script
        self._room = backdrop.lobby() if script.camera == LOBBY.camera else backdrop.gate()
        self._counter = self._room[backdrop.COUNTER_PX :].copy()
        self._cut_outs = {visit: load_cut_out(FIGURES[visit.photo], script.gain, mirrored=visit.mirrored) for visit in script.visits}
        self._rng = np.random.default_rng(seed)
        self._brighter, self._darker = _noise_fields(self._rng)

    def frames(self, duration_s: float = DURATION_S) -> Iterator[Image]:
        """Yield (720, 1280, 3) uint8 RGB frames at FPS."""
        for index in range(round(duration_s * FPS)):
            yield self._frame(index / FPS)

    def _frame(self, t_s: float) -> Image:
        picture = self._room.copy()
        for visit, stop in self._script.whereabouts(t_s):
            self._paint(picture, visit, stop)
        picture[backdrop.COUNTER_PX :] = self._counter
        exposure = 1 + DRIFT * math.sin(2 * math.pi * t_s / DRIFT_PERIOD_S)
        result: Image = np.asarray(cv2.convertScaleAbs(picture, alpha=exposure), np.uint8)
        return self._noisy(result)

    def _noisy(self, picture: Image) -> Image:
        x, y = self._rng.integers(0, NOISE_MARGIN_PX, 2)
        part = np.s_[y : y + HEIGHT_PX, x : x + WIDTH_PX]
        cv2.add(picture, self._brighter[part], picture)
        cv2.subtract(picture, self._darker[part], picture)
        return picture

    def _paint(self, picture: Image, visit: Visit, stop: Stop) -> None:
        cut_out = self._cut_outs[visit]
        scale = stop.height_px / cut_out.figure.face_height_px
        walking = visit.walking(stop.t_s)
        lean_deg = SWAY_DEG * math.sin(2 * math.pi * 0.9 * stop.t_s) if walking else 0.0
        window = _window(cut_out, stop, scale)
        if window is None:
            return
        left, top, right, bottom = window
        turn = cv2.getRotationMatrix2D((cut_out.figure.face_x_px, cut_out.figure.face_y_px), lean_deg, scale)
        turn[:, 2] += np.array([stop.x_px - left - cut_out.figure.face_x_px, stop.y_px - top - cut_out.figure.face_y_px])
        size = (right - left, bottom - top)
        pixels = cv2.warpAffine(cut_out.pixels, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(cut_out.alpha, turn, size, flags=cv2.INTER_LINEAR)
        if walking and _speed_px(visit, stop.t_s) > SHUTTER_SPEED_PX:
            pixels, alpha = cv2.blur(pixels, (3, 1)), cv2.blur(alpha, (3, 1))
        share = np.asarray(alpha, np.float32) / np.float32(255)
        part = picture[top:bottom, left:right]
        part[:] = cv2.blendLinear(pixels, np.ascontiguousarray(part), share, 1 - share)


def _window(cut_out: CutOut, stop: Stop, scale: float) -> tuple[int, int, int, int] | None:
    """Return the part of the picture that a figure may touch (left, top, right, bottom), or None outside."""
    height, width = cut_out.alpha.shape
    slack_px = 16  # for the lean
    left = max(0, math.floor(stop.x_px - cut_out.figure.face_x_px * scale) - slack_px)
    top = max(0, math.floor(stop.y_px - cut_out.figure.face_y_px * scale) - slack_px)
    right = min(WIDTH_PX, math.ceil(stop.x_px + (width - cut_out.figure.face_x_px) * scale) + slack_px)
    bottom = min(backdrop.COUNTER_PX, math.ceil(stop.y_px + (height - cut_out.figure.face_y_px) * scale))
    return (left, top, right, bottom) if right > left and bottom > top else None


def _speed_px(visit: Visit, t_s: float) -> float:
    before, after = visit.at(t_s - 1 / FPS), visit.at(t_s)
    return abs(after.x_px - before.x_px) if before and after else 0.0


def _noise_fields(rng: np.random.Generator) -> tuple[U8, U8]:
    """Return what a frame's noise adds and what it takes, larger than a frame; mostly grey, a little colour."""
    shape = (HEIGHT_PX + NOISE_MARGIN_PX, WIDTH_PX + NOISE_MARGIN_PX)
    grey = rng.normal(0, NOISE_SIGMA, (*shape, 1)).astype(np.float32)
    colour = rng.normal(0, NOISE_SIGMA / 3, (*shape, 3)).astype(np.float32)
    noise = np.round(grey + colour)
    return np.clip(noise, 0, 255).astype(np.uint8), np.clip(-noise, 0, 255).astype(np.uint8)
