"""Recognizers of painted people, and the frames that come to them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from core.errors import UnavailableError
from core.jpeg import encode_jpeg
from core.live import LiveTracks
from core.models.spec import CalibrationPoint, CalibrationSpec, InputSpec, ModelSpec
from core.ports import MatchAnswer, Matcher
from core.schema import FrameHeader, Sighting, encode
from core.settings import RecognizeSettings
from core.types import F32, Frame, Image
from embed.calibration import Calibration
from recognize.recognizer import Recognizer, Shown, Told
from recognize.threshold import ThresholdPolicy
from recognize.vision import Vision
from tests.builders.painted import ListMatcher, PaintedDetector, PaintedEmbedder, painted

ALICE, STRANGER = 1, 2


class MovingMatcher(ListMatcher):
    """A gallery in two shards, of which the one that knows the names may be away; or nobody answers at all."""

    def __init__(self) -> None:
        super().__init__({ALICE: "alice"})
        self.missing = 0
        self.failures = 0
        self.asked: list[int] = []

    async def search(self, probes: F32, *, model: str, collection: str, k: int) -> MatchAnswer:
        self.asked.append(len(probes))
        if self.failures:
            self.failures -= 1
            raise UnavailableError("no shard answers")
        if self.missing:
            return MatchAnswer(candidates=((),) * len(probes), generation=1, shards_missing=self.missing, references=0)
        return await super().search(probes, model=model, collection=collection, k=k)


def calibration() -> Calibration:
    points = tuple(CalibrationPoint(far=10.0**-n, score=0.1 * n + 0.1, measured=True) for n in range(1, 6))
    tables = tuple(CalibrationSpec(kind=kind, points=points, source="made up", comparisons=1) for kind in ("single", "track"))
    spec = ModelSpec(
        name="painted",
        task="embedder",
        architecture="embedder",
        file="painted.onnx",
        sha256="0",
        shipped=False,
        licence="none",
        commercial_use=True,
        provenance="test",
        training_data="none",
        input=InputSpec(tensor="x", colour="rgb", mean=0, scale=1),
        calibration=tables,
    )
    return Calibration.of(spec)


def make_recognizer(
    executor: ThreadPoolExecutor,
    live: LiveTracks | None = None,
    *,
    matcher: Matcher | None = None,
    detector: Any = None,
    embedder: Any = None,
    clock: Callable[[], float] = lambda: 1000.0,
    **more: Any,
) -> Recognizer:
    return Recognizer(
        vision=Vision(detector or PaintedDetector(), embedder or PaintedEmbedder(), executor),
        matcher=matcher or ListMatcher({ALICE: "alice"}),
        policy=ThresholdPolicy(calibration=calibration(), settings=RecognizeSettings()),
        live=live,
        clock=clock,
        **more,
    )


def shown(number: int, image: Image, *, camera: str = "gate", cut: bool = False, **changes: Any) -> Shown:
    """Return frame ``number`` of a camera, a tenth of a second after the one before; ``captured_s`` and other fields on wish."""
    captured_s = changes.pop("captured_s", number * 0.1)
    frame = Frame(frame_id=changes.pop("frame_id", f"{camera}/s/{number}"), camera=camera, captured_s=captured_s, image=image)
    return Shown(frame=frame, region="north", published_s=captured_s, scene_cut=cut, **changes)


def header_of(number: int, image: Image, **changes: Any) -> FrameHeader:
    fields: dict[str, Any] = {
        "frame_id": f"gate/s/{number}",
        "camera": "gate",
        "region": "north",
        "captured_s": number * 0.1,
        "published_s": number * 0.1,
        "width_px": image.shape[1],
        "height_px": image.shape[0],
        "reason": "motion",
    }
    return FrameHeader(**(fields | changes))


def record_of(number: int, image: Image, **changes: Any) -> bytes:
    """Return the value of a frame's record in the log."""
    return encode(header_of(number, image, **changes), encode_jpeg(image, 90))


async def walk(recognizer: Recognizer, person: int, numbers: Sequence[int], *, camera: str = "gate", **changes: object) -> list[Told]:
    """Let one painted person walk through the given frames of a camera, and return what was told."""
    told: list[Told] = []
    for n in numbers:
        told += await recognizer.process([shown(n, painted({person: (20 + 4 * n % 400, 100)}), camera=camera, **changes)])
    return told


def last(told: Sequence[Told]) -> Sighting:
    """Return the sighting that was told last."""
    return told[-1][0]
