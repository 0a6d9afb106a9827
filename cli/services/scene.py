"""The scripted scene of the fleet's tests and benches: eight cameras in two regions, known people and strangers who come, stand and leave.

Painted from the photographs that ship with the package (see cli.demo.footage), as small pictures, so that two cores carry a whole fleet.
Deterministic.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cli.demo import backdrop
from cli.demo.footage import CutOut, load_cut_out
from cli.demo.script import FIGURES, KNOWN, Stop, Visit
from cli.demo.script import HEIGHT_PX as SCRIPT_HEIGHT_PX
from cli.demo.script import WIDTH_PX as SCRIPT_WIDTH_PX
from cli.services.annexb import Clip, read_clip
from core.types import F32, U8, Image
from ingest.source import ClipWriter

VERSION = 2  # of the painting: a change makes everybody's footage anew
WIDTH_PX, HEIGHT_PX = 480, 270
SCALE = WIDTH_PX / SCRIPT_WIDTH_PX
FPS = 5
GOP = FPS  # whoever reconnects waits a second at most
CRF = 24
NOISE_SIGMA = 0.8
DURATION_S = 42.0
STAY_S = 15.0
"""From entering the picture to leaving it: longer than the 10 s that a takeover of a dead ingester's cameras may take."""
WALK_S = 2.5
PAUSE_S = 3.0
"""An empty picture between two visits."""
STAGGER_S = 0.8
"""Each camera's visitors come so much later than those of the one before."""
FACE_PX = 175.0
"""Face height in script pixels: 66 px in the small picture."""
FACE_Y_PX = 350.0
PEOPLE: tuple[tuple[str, str], ...] = (
    ("Barack Obama", "barack-obama-2012"),
    ("Eileen Collins", "eileen-collins"),
    ("Joe Biden", "joe-biden-2010"),
    ("Grace Hopper", "grace-hopper"),
)
"""Who walks (name, photo). The enrolled ones are cli.demo.script.KNOWN; the others are strangers."""
REGIONS = ("north", "south")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneCamera:
    """One camera of the scene."""

    name: str
    region: str
    room: str
    """Backdrop: ``lobby`` or ``gate``."""
    visits: tuple[Visit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How visits follow each other on one camera."""

    visits: int = 2
    stay_s: float = STAY_S
    pause_s: float = PAUSE_S
    stagger_s: float = STAGGER_S


BUSY = Rhythm(visits=5, stay_s=6.5, pause_s=1.2, stagger_s=0.0)
"""For benches: many visitors a minute, so that there are many first decisions to time."""


def scene_cameras(count: int = 8, rhythm: Rhythm = Rhythm()) -> tuple[SceneCamera, ...]:
    """Return cameras with their visits: over all of them every person comes about equally often, at different times and places."""
    cameras = []
    for index in range(count):
        first_s = 1.0 + rhythm.stagger_s * (index % 8)
        visits = tuple(
            _visit(
                index + 2 * turn + (index // 4) * (1 + turn),
                (first_s + turn * (rhythm.stay_s + rhythm.pause_s), rhythm.stay_s),
                420.0 + 110.0 * ((index + turn) % 5),
                from_left=(index + turn) % 2 == 0,
            )
            for turn in range(rhythm.visits)
        )
        region = REGIONS[index % len(REGIONS)]
        cameras.append(SceneCamera(name=f"{region}-{index}", region=region, room=("lobby", "gate")[index // 2 % 2], visits=visits))
    return tuple(cameras)


def _visit(person: int, when_s: tuple[float, float], x_px: float, *, from_left: bool) -> Visit:
    """Return a visit that begins at a time and lasts for a while."""
    name, photo = PEOPLE[person % len(PEOPLE)]
    starts_s, stay_s = when_s
    outside = (-260.0, SCRIPT_WIDTH_PX + 260.0)
    enters, leaves = outside if from_left else outside[::-1]
    places = ((0.0, enters), (WALK_S, x_px), (stay_s - WALK_S, x_px), (stay_s, leaves))
    stops = tuple(Stop(t_s=starts_s + at_s, x_px=x, y_px=FACE_Y_PX, height_px=FACE_PX) for at_s, x in places)
    return Visit(person=name, known=any(known.name == name for known in KNOWN), photo=photo, mirrored=not from_left, stops=stops)


def scene_clips(folder: Path, cameras: Sequence[SceneCamera]) -> dict[str, Clip]:
    """Return each camera's clip, painting those that are not there yet (some seconds, once)."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2, thread_name_prefix="scene") as pool:
        paths = list(pool.map(lambda camera: _ensure(folder, camera), cameras))
    return {camera.name: read_clip(path.read_bytes(), fps=FPS, name=str(path)) for camera, path in zip(cameras, paths, strict=True)}


def _ensure(folder: Path, camera: SceneCamera) -> Path:
    facts = (VERSION, CRF, NOISE_SIGMA, FIGURES, camera, DURATION_S, FPS, WIDTH_PX)
    path = folder / f"{camera.name}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}.h264"
    if not path.exists():
        with ClipWriter(path, fps=FPS, gop=GOP, crf=CRF) as writer:
            for image in _Painter(camera).frames():
                writer.write(image)
    return path


class _Painter:
    """Paints one camera's small pictures. Thread rule: one thread per painter."""

    def __init__(self, camera: SceneCamera) -> None:
        self._camera = camera
        room = backdrop.lobby() if camera.room == "lobby" else backdrop.gate()
        self._room: Image = np.asarray(cv2.resize(room, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA), np.uint8)
        self._counter_px = round(backdrop.COUNTER_PX * HEIGHT_PX / SCRIPT_HEIGHT_PX)
        self._cut_outs = {visit: load_cut_out(FIGURES[visit.photo], (1.0, 1.0, 1.0), mirrored=visit.mirrored) for visit in camera.visits}
        self._rng = np.random.default_rng(zlib.crc32(camera.name.encode()))
        self._noise: F32 = self._rng.normal(0, NOISE_SIGMA, (HEIGHT_PX + 32, WIDTH_PX + 32, 1)).astype(np.float32)

    def frames(self) -> Iterator[Image]:
        """Yield (270, 480, 3) uint8 RGB frames at FPS."""
        for index in range(round(DURATION_S * FPS)):
            yield self._frame(index / FPS)

    def _frame(self, t_s: float) -> Image:
        picture = self._room.astype(np.float32)
        for visit in self._camera.visits:
            stop = visit.at(t_s)
            if stop is not None:
                self._paint(picture, self._cut_outs[visit], stop)
        picture[self._counter_px :] = self._room[self._counter_px :]
        y, x = self._rng.integers(0, 32, 2)
        picture += self._noise[y : y + HEIGHT_PX, x : x + WIDTH_PX]
        return np.clip(picture, 0, 255).astype(np.uint8)

    def _paint(self, picture: F32, cut_out: CutOut, stop: Stop) -> None:
        scale = SCALE * stop.height_px / cut_out.figure.face_height_px
        moved = np.array(
            [
                [scale, 0, stop.x_px * SCALE - scale * cut_out.figure.face_x_px],
                [0, scale, stop.y_px * SCALE - scale * cut_out.figure.face_y_px],
            ]
        )
        size = (WIDTH_PX, HEIGHT_PX)
        pixels, alpha = _shrunk(cut_out)
        step = cut_out.alpha.shape[0] / alpha.shape[0]
        moved[:, :2] *= step
        warped = cv2.warpAffine(pixels, moved, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        share = (cv2.warpAffine(alpha, moved, size, flags=cv2.INTER_LINEAR).astype(np.float32) / 255)[..., None]
        picture += share * (warped - picture)


def _shrunk(cut_out: CutOut) -> tuple[Image, U8]:
    """Return a figure at half its size: shrinking further in one step would alias."""
    height, width = cut_out.alpha.shape
    size = (width // 2, height // 2)
    pixels: Image = np.asarray(cv2.resize(cut_out.pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    alpha: U8 = np.asarray(cv2.resize(cut_out.alpha, size, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels, alpha
