"""H.264 as a bare stream: access units out of a file, RTP payloads out of access units. Pure.

Sources: ITU-T H.264 Annex B and 7.4.1.2.4 (where an access unit begins); RFC 6184, packetization mode 1.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.errors import UnreadableMediaError

MTU_BYTES = 1400
SLICE, IDR, SPS, PPS = 1, 5, 7, 8
FU_A = 28
START = b"\x00\x00\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One coded picture, as RTP payloads."""

    key: bool
    """It can be decoded without any before it."""
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A recording that can be played by the clock."""

    pictures: tuple[Picture, ...]
    fps: float
    parameter_sets: str
    """SPS and PPS for a session description (sprop-parameter-sets)."""

    @property
    def duration_s(self) -> float:
        """How long it plays."""
        return len(self.pictures) / self.fps


def read_clip(data: bytes, *, fps: float, name: str) -> Clip:
    """Return a clip from an Annex B stream without reordered pictures, that begins with a key frame.

    Args:
        data: the stream.
        fps: its rate, which a bare stream does not tell.
        name: for the error.

    Raises:
        UnreadableMediaError: no such stream.
    """
    units = list(_nal_units(data))
    sets = {unit[0] & 31: unit for unit in reversed(units) if unit[0] & 31 in (SPS, PPS)}
    pictures = tuple(_pictures(units))
    if not pictures or not pictures[0].key or len(sets) < 2:
        raise UnreadableMediaError(f"{name}: not an H.264 stream that begins with a key frame")
    parameter_sets = ",".join(base64.b64encode(sets[kind]).decode() for kind in (SPS, PPS))
    return Clip(pictures=pictures, fps=fps, parameter_sets=parameter_sets)


def _nal_units(data: bytes) -> Iterator[bytes]:
    begins = []
    at = data.find(START)
    while at >= 0:
        begins.append(at)
        at = data.find(START, at + 3)
    for here, there in pairwise([*begins, len(data)]):
        unit = data[here + 3 : there].rstrip(b"\x00")  # the zero of a four-byte start code belongs to the next unit
        if unit:
            yield unit


def _pictures(units: Sequence[bytes]) -> Iterator[Picture]:
    gathered: list[bytes] = []
    complete = False
    for unit in units:
        kind = unit[0] & 31
        is_slice = kind in (SLICE, IDR)
        first_slice = is_slice and unit[1] & 0x80  # first_mb_in_slice is 0, coded as the single bit 1
        if complete and (first_slice or not is_slice):
            yield _picture(gathered)
            gathered, complete = [], False
        gathered.append(unit)
        complete = complete or is_slice
    if complete:
        yield _picture(gathered)


def _picture(units: Sequence[bytes]) -> Picture:
    payloads = tuple(payload for unit in units for payload in _payloads(unit))
    return Picture(key=any(unit[0] & 31 == IDR for unit in units), payloads=payloads)


def _payloads(unit: bytes) -> Iterator[bytes]:
    """Return a unit as one payload, or as fragments of type FU-A."""
    if len(unit) <= MTU_BYTES:
        yield unit
        return
    indicator, kind = unit[0] & 0xE0 | FU_A, unit[0] & 31
    last = len(unit) - MTU_BYTES
    for at in range(1, len(unit), MTU_BYTES):
        edge = (0x80 if at == 1 else 0) | (0x40 if at >= last else 0)
        yield bytes([indicator, edge | kind]) + unit[at : at + MTU_BYTES]
