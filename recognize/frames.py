"""Records of the log become frames, or a reason why not."""

import math
from collections.abc import Callable, Sequence

from core.carried import open_jpeg
from core.errors import MessageError, UnreadableMediaError
from core.jpeg import decode_jpeg
from core.ports import Record
from core.schema import FrameHeader, decode
from core.topology import REPLAY_HEADER
from core.types import Frame
from core.vault import Vault
from recognize.shown import Shown

MAX_FRAME_ID = 200  # characters; camera names have at most 64
MIN_SIDE_PX = 16  # smaller holds no face, and is no camera
LATEST_S = 32503680000.0  # year 3000


def read_frames(
    records: Sequence[Record], *, received_s: float, clock: Callable[[], float], vault: Vault | None = None
) -> list[Shown | str]:
    """Return for each record its frame, or the reason why it can't be read. Synchronous, any thread.

    Args:
        records: of the log.
        received_s: when they came, Unix seconds.
        clock: Unix seconds.
        vault: opens pictures that are sealed.
    """
    results: list[Shown | str] = []
    for record in records:
        try:
            results.append(_read(record, received_s, clock, vault))
        except (MessageError, UnreadableMediaError) as err:
            results.append(str(err))
    return results


def _read(record: Record, received_s: float, clock: Callable[[], float], vault: Vault | None) -> Shown:
    header, payload = decode(FrameHeader, record.value)
    if problem := header_problem(header, record.key):
        raise MessageError(f"FrameHeader.{problem}")
    image = decode_jpeg(open_jpeg(vault, header, payload))
    if image.shape[:2] != (header.height_px, header.width_px):
        raise MessageError(f"frame of {header.width_px}x{header.height_px} px holds a picture of {image.shape[1]}x{image.shape[0]} px")
    return Shown(
        frame=Frame(frame_id=header.frame_id, camera=header.camera, captured_s=header.captured_s, image=image),
        region=header.region,
        published_s=header.published_s,
        scene_cut=header.scene_cut,
        received_s=received_s,
        decoded_s=clock(),
        replayed_s=received_s if any(name == REPLAY_HEADER for name, _ in record.headers) else 0.0,
        partition=(record.topic, record.partition),
    )


def header_problem(header: FrameHeader, key: str) -> str:
    """Return what is wrong with a header of a record with this key, "" when all is well. Pure."""
    if header.camera != key:
        return f"camera: {header.camera[:64]!r} in a record of {key[:64]!r}"
    if not header.frame_id or len(header.frame_id) > MAX_FRAME_ID or "\x00" in header.frame_id:
        return f"frame_id: expected 1 to {MAX_FRAME_ID} characters, got {len(header.frame_id)}"
    for name in ("captured_s", "published_s"):
        value = getattr(header, name)
        if not (math.isfinite(value) and 0 <= value <= LATEST_S):
            return f"{name}: {value} is not a Unix time"
    if min(header.width_px, header.height_px) < MIN_SIDE_PX:
        return f"width_px: {header.width_px}x{header.height_px} px is smaller than {MIN_SIDE_PX} px"
    return ""
