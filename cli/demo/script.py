"""What happens in front of the demo's cameras: who walks in, stands still and leaves. The truth that names are checked against.

Pure data and arithmetic; times are seconds from a clip's first frame, positions are pixels of a 1280x720 picture.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

WIDTH_PX = 1280
HEIGHT_PX = 720
FPS = 10.0
DURATION_S = 28.0
BLEND_S = 0.35  # a walker gathers and loses speed within about a step
STEP_HZ = 1.8  # steps per second of a calm walk
BOB_PX = 5.0  # how far a head rises and falls with a step, at a face of 140 px


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A cut-out of a photograph: ``assets/people/figures/<photo>.jpg`` with its mask."""

    photo: str
    face_x_px: float
    """Centre of the face in the cut-out."""
    face_y_px: float
    face_height_px: float
    """Brow to chin, as the detector sees it."""


FIGURES = {
    figure.photo: figure
    for figure in (
        Figure(photo="barack-obama-2012", face_x_px=236, face_y_px=126, face_height_px=180),
        Figure(photo="barack-obama-2010", face_x_px=276, face_y_px=109, face_height_px=180),
        Figure(photo="joe-biden-2010", face_x_px=238, face_y_px=123, face_height_px=180),
        Figure(photo="grace-hopper", face_x_px=217, face_y_px=180, face_height_px=180),
        Figure(photo="eileen-collins", face_x_px=292, face_y_px=147, face_height_px=165),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A known person: the photo that is enrolled is never the picture that walks past a camera."""

    name: str
    photo: str
    """``assets/people/enrol/<photo>.jpg``."""


KNOWN = (Enrolment(name="Barack Obama", photo="barack-obama-2009"), Enrolment(name="Joe Biden", photo="joe-biden-2010"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Where a face is at a time."""

    t_s: float
    x_px: float
    y_px: float
    height_px: float
    """Face height: who is nearer looks larger and hides who is farther."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One person's way through one camera's picture."""

    person: str
    """Real name, for the summary; a stranger's is never told to the platform."""
    known: bool
    photo: str
    mirrored: bool
    stops: tuple[Stop, ...]
    """Two equal places in a row are a stand-still."""

    @property
    def starts_s(self) -> float:
        """When the figure sets off, still outside the picture."""
        return self.stops[0].t_s

    @property
    def ends_s(self) -> float:
        """When the figure has left the picture."""
        return self.stops[-1].t_s

    def at(self, t_s: float) -> Stop | None:
        """Return where the face is, with the bob of a walk, or None before and after the visit."""
        if not self.starts_s <= t_s < self.ends_s:
            return None
        here, there = next((a, b) for a, b in pairwise(self.stops) if a.t_s <= t_s < b.t_s)
        share = _eased((t_s - here.t_s) / (there.t_s - here.t_s), (there.t_s - here.t_s))
        height_px = here.height_px + share * (there.height_px - here.height_px)
        walking = here.x_px != there.x_px
        phase = 2 * math.pi * t_s
        bob_px = BOB_PX * height_px / 140 * abs(math.sin(phase * STEP_HZ / 2)) if walking else 0.5 * math.sin(phase * 0.25)
        return Stop(
            t_s=t_s,
            x_px=here.x_px + share * (there.x_px - here.x_px),
            y_px=here.y_px + share * (there.y_px - here.y_px) - bob_px,
            height_px=height_px,
        )

    def walking(self, t_s: float) -> bool:
        """Return whether the figure is on the move."""
        return any(a.t_s <= t_s < b.t_s and a.x_px != b.x_px for a, b in pairwise(self.stops))


def _eased(share: float, duration_s: float) -> float:
    """Constant speed with soft ends: 0..1 to 0..1."""
    soft = min(0.5, BLEND_S / duration_s)
    if share < soft:
        return share * share / (2 * soft * (1 - soft))
    if share > 1 - soft:
        return 1 - (1 - share) ** 2 / (2 * soft * (1 - soft))
    return (share - soft / 2) / (1 - soft)


def _visit(person: str, photo: str, *stops: tuple[float, float, float, float], mirrored: bool = False) -> Visit:
    known = any(enrolment.name == person for enrolment in KNOWN)
    places = tuple(Stop(t_s=t, x_px=x, y_px=y, height_px=h) for t, x, y, h in stops)
    return Visit(person=person, known=known, photo=photo, mirrored=mirrored, stops=places)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraScript:
    """One simulated camera."""

    camera: str
    visits: tuple[Visit, ...]
    gain: tuple[float, float, float]
    """The scene's light on people: factors of red, green and blue."""

    def until(self, duration_s: float) -> "CameraScript":
        """Return the script of a shorter clip: those who have arrived and stood for a second before it ends."""
        return replace(self, visits=tuple(visit for visit in self.visits if visit.stops[1].t_s <= duration_s - 1))

    def whereabouts(self, t_s: float) -> list[tuple[Visit, Stop]]:
        """Return who is where, the farthest first: the order in which they are painted."""
        present = [(visit, stop) for visit in self.visits if (stop := visit.at(t_s)) is not None]
        return sorted(present, key=lambda pair: pair[1].height_px)


LOBBY = CameraScript(
    camera="lobby",
    gain=(1.0, 0.97, 0.92),
    visits=(
        _visit("Barack Obama", "barack-obama-2012", (1, -190, 400, 112), (4.5, 450, 395, 142), (10, 450, 395, 142), (14.5, 1490, 395, 148)),
        _visit("Eileen Collins", "eileen-collins", (8, 1560, 415, 104), (11.5, 840, 415, 118), (16, 840, 415, 118), (20, -330, 415, 122)),
        _visit(
            "Joe Biden",
            "joe-biden-2010",
            (19, 1470, 395, 118),
            (22, 700, 390, 136),
            (24.5, 700, 390, 136),
            (27.3, 1480, 395, 122),
            mirrored=True,
        ),
    ),
)
GATE = CameraScript(
    camera="gate",
    gain=(0.92, 0.97, 1.04),
    visits=(
        _visit(
            "Joe Biden",
            "joe-biden-2010",
            (1, 1480, 390, 116),
            (4.5, 830, 385, 146),
            (9, 830, 385, 146),
            (13, -200, 390, 150),
            mirrored=True,
        ),
        _visit("Grace Hopper", "grace-hopper", (8, -200, 440, 108), (12, 520, 440, 122), (16.5, 520, 440, 122), (20.3, 1480, 440, 126)),
        _visit(
            "Barack Obama", "barack-obama-2010", (15.5, 1490, 395, 118), (19.5, 760, 390, 150), (23.5, 760, 390, 150), (27, -220, 395, 140)
        ),
    ),
)
CAMERAS = (LOBBY, GATE)
