"""Messages on the wire, all of them. Frozen msgspec structs, msgpack, a version each.

Add fields with defaults, never rename. Arrays travel as little-endian bytes with dtype and shape; pictures as JPEG bytes
beside the header (the record's payload), never inside a text encoding. ``tests/golden`` holds the bytes of each message.
"""

import struct
import uuid
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import MessageError

GateReason = Literal["motion", "hold", "heartbeat"]
SightingOutcome = Literal["subject", "stranger", "unclear"]
"""``unclear``: too small, blurred or turned to tell; never counted as a stranger."""

SIGHTING_NAMESPACE = uuid.UUID("6f2a7a52-55f2-5e0b-9a0c-6d1e5f5a1c01")
MAX_HEADER_BYTES = 1 << 20  # no header of ours comes near; a larger length field is damage

M = TypeVar("M", bound="Message")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all messages."""

    version: int = 1


class Array(msgspec.Struct, frozen=True):
    """An array on the wire."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @staticmethod
    def pack(array: NDArray[Any]) -> "Array":
        """Pack any float or integer array, little-endian, C order."""
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        return Array(little.dtype.str, little.shape, little.tobytes())

    def unpack(self) -> NDArray[Any]:
        """Return a read-only view of the bytes.

        Raises:
            MessageError: if dtype, shape and byte count do not agree, or the dtype is not a number.
        """
        try:
            dtype = np.dtype(self.dtype)
            if dtype.kind not in "fiu":
                raise ValueError(f"dtype {self.dtype} is not a number")
            return np.frombuffer(self.data, dtype).reshape(self.shape)
        except (TypeError, ValueError) as err:
            raise MessageError(f"array {self.dtype} {self.shape} with {len(self.data)} bytes: {err}") from err


class FrameHeader(Message, frozen=True, kw_only=True):
    """Header of a gated frame; the JPEG (4:2:0, RGB when decoded) is the payload. Topic ``frames.<region>``, key = camera."""

    frame_id: str
    camera: str
    region: str
    captured_s: float
    published_s: float
    width_px: int
    height_px: int
    reason: GateReason
    motion_boxes: tuple[tuple[int, int, int, int], ...] = ()
    """x1, y1, x2, y2 in frame pixels."""
    scene_cut: bool = False
    """The gate saw the whole picture change: tracks end here."""


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Unix seconds at which each stage was done, for the frame that decided the sighting.

    A face that the detector is unsure of counts when it is seen a second time: that frame decides it.
    """

    captured_s: float
    published_s: float
    detected_s: float
    embedded_s: float
    matched_s: float
    decided_s: float
    received_s: float = 0.0
    """When the recognizer had the frame; 0 = not told."""
    decoded_s: float = 0.0
    """When its JPEG was decoded; 0 = not told."""


class TrackPoint(msgspec.Struct, frozen=True, array_like=True):
    """Where a track was: capture time and box in frame pixels."""

    t_s: float
    x1: float
    y1: float
    x2: float
    y2: float


class Sighting(Message, frozen=True, kw_only=True):
    """What a track turned out to be; sent again whenever it becomes better known, upserted by ``sighting_id``.

    Topic ``sightings``, key = camera; the payload is the JPEG thumbnail of the best shot.
    """

    sighting_id: str
    track_id: str
    camera: str
    region: str
    revision: int
    """Grows with each message of this sighting; the store keeps the highest."""
    closed: bool
    """The track has ended, as far as is known: a further revision may complete it or, after an interruption, continue it."""
    outcome: SightingOutcome
    reason: str = ""
    """Why ``stranger`` or ``unclear``: below_threshold, empty_gallery, rejected_pair, ambiguous, shards_missing, or as in
    core.types.Quality."""
    collection: str
    subject_id: str | None = None
    subject: str | None = None
    reference_id: str | None = None
    score: float | None = None
    """Cosine of the nearest subject, named or not; None when nothing was compared."""
    threshold: float
    model: str
    """Id of the embedding model."""
    quality: float
    faces: int
    """How many faces the track holds so far."""
    first_s: float
    last_s: float
    best_s: float
    best_box: tuple[float, float, float, float]
    path: tuple[TrackPoint, ...] = ()
    """At most 256 points over the track's life, thinned evenly."""
    times: StageTimes
    embedding: Array | None = None
    """The track's fused embedding, float32 (D,): never logged, never printed."""
    shards_missing: int = 0
    dropped: bool = False
    """It is somebody who has opted out: what was stored of it is deleted, and nothing of it is stored any more."""
    weak_for: tuple[str, ...] = ()
    """Ids of watchlists whose own threshold the score does not reach: they raise no alert of it."""


class Biometrics(Message, frozen=True, kw_only=True):
    """What of a sighting identifies somebody: sealed, with the thumbnail behind it, it is the payload of a Sighting (core/carried.py)."""

    embedding: Array | None = None


class ProbeBatch(Message, frozen=True, kw_only=True):
    """Up to 64 probes of one model for every shard of a collection."""

    batch_id: str
    model: str
    collection: str
    probes: Array
    """(N, D) float32, unit rows."""
    k: int
    timeout_s: float
    """How long the asker waits for answers; a duration, for the clocks of two hosts need not agree."""


class ShardAnswer(Message, frozen=True, kw_only=True):
    """One shard's candidates for a ProbeBatch."""

    batch_id: str
    shard: int
    shards_total: int
    generation: int
    candidates: tuple[tuple["CandidateRow", ...], ...]
    references: int = 0
    """References each probe was compared with."""
    problem: str = ""
    """Why this question has no answer at any shard (MessageError at the asker's); empty = answered."""


class CandidateRow(msgspec.Struct, frozen=True, array_like=True):
    """One candidate on the wire."""

    subject_id: str
    subject: str
    reference_id: str
    score: float


class GalleryChange(Message, frozen=True, kw_only=True):
    """One change of the gallery. Generations have no gaps; a matcher that sees one reloads from the database."""

    generation: int
    action: Literal["put", "delete"]
    """``put`` adds or replaces one reference; ``delete`` removes one reference."""
    collection: str
    subject_id: str
    subject: str
    reference_id: str
    model: str
    embedding: Array | None = None
    expires_s: float | None = None
    """Unix time after which the subject is no longer matched."""
    starts_s: float | None = None
    """Unix time before which the subject is not matched."""


class LiveHolds(Message, frozen=True, kw_only=True):
    """Cameras of a region on which a track lives, each until a capture time (Unix seconds). Exchange ``live``."""

    region: str
    until_s: dict[str, float]


class DeadLetter(Message, frozen=True, kw_only=True):
    """A record that could not be processed; its original value is the payload. Topic ``dead.<topic>``."""

    topic: str
    partition: int
    offset: int
    key: str
    reason: str


def sighting_id_of(track_id: str) -> str:
    """Return uuid5(track_id): a redelivery makes the same sighting."""
    return str(uuid.uuid5(SIGHTING_NAMESPACE, track_id))


_encoder = msgspec.msgpack.Encoder()
# Made before any thread decodes: msgspec makes what it knows of a struct at the first use, and threads that come meanwhile read null.
_decoders: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {kind: msgspec.msgpack.Decoder(kind) for kind in Message.__subclasses__()}


def encode(message: Message, payload: bytes = b"") -> bytes:
    """Pack a message and its payload: u32 little-endian header length, msgpack header, payload."""
    header = _encoder.encode(message)
    return b"".join((struct.pack("<I", len(header)), header, payload))


def decode(kind: type[M], data: bytes | memoryview) -> tuple[M, memoryview]:
    """Unpack a message of the given kind and a view of its payload.

    Raises:
        MessageError: saying what does not fit.
    """
    view = memoryview(data)
    if len(view) < 4:
        raise MessageError(f"{kind.__name__}: {len(view)} bytes, shorter than the length field")
    (length,) = struct.unpack_from("<I", view)
    if length > min(len(view) - 4, MAX_HEADER_BYTES):
        raise MessageError(f"{kind.__name__}: header length {length} in a record of {len(view)} bytes")
    try:
        return _decoders[kind].decode(view[4 : 4 + length]), view[4 + length :]
    except msgspec.MsgspecError as err:
        raise MessageError(f"{kind.__name__}: {err}") from err
